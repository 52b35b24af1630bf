// JDBC through pgfresh: what test_drivers.py asks it to do. Prints name=value lines.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.TreeSet;

public class Drive {
  static final String BY_ID = "SELECT id, name, price FROM item WHERE id = ?";

  static String name(Connection connection, int id) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(BY_ID)) {
      statement.setInt(1, id);
      try (ResultSet rows = statement.executeQuery()) {
        return rows.next() ? rows.getString("name") : null;
      }
    }
  }

  public static void main(String[] arguments) throws Exception {
    try (Connection connection = DriverManager.getConnection(arguments[0]);
         Connection other = DriverManager.getConnection(arguments[0])) {
      // Prepared on the server, and binary, from the fifth execution on.
      TreeSet<String> answers = new TreeSet<>();
      try (PreparedStatement statement = connection.prepareStatement(BY_ID)) {
        for (int turn = 0; turn < 60; turn++) {
          statement.setInt(1, 5);
          try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            answers.add(rows.getInt(1) + " " + rows.getString(2) + " " + rows.getBigDecimal(3));
          }
        }
      }
      System.out.println("answers=" + answers);

      connection.setAutoCommit(false);
      try (Statement statement = connection.createStatement()) {
        statement.executeUpdate("UPDATE item SET name = 'by jdbc' WHERE id = 80");
        System.out.println("own=" + name(connection, 80));
        connection.rollback();
        System.out.println("rolledBack=" + name(connection, 80));
        connection.commit();
        statement.setFetchSize(7);  // a portal with row limits
        int count = 0;
        try (ResultSet rows = statement.executeQuery("SELECT id FROM item WHERE id <= 50")) {
          while (rows.next()) count++;
        }
        System.out.println("fetched=" + count);
        connection.commit();
      }
      connection.setAutoCommit(true);

      String stale = "none";
      try (PreparedStatement update =
               connection.prepareStatement("UPDATE item SET name = ? WHERE id = 81")) {
        for (int turn = 0; turn < 30; turn++) {
          update.setString(1, "turn " + turn);
          update.executeUpdate();
          String seen = name(other, 81);
          if (!("turn " + turn).equals(seen)) stale = seen;
        }
        for (int n = 0; n < 100; n++) {
          update.setString(1, "batch " + n);
          update.addBatch();
        }
        update.executeBatch();
      }
      System.out.println("stale=" + stale);
      System.out.println("batch=" + name(other, 81));
      try (Statement statement = connection.createStatement()) {
        statement.executeQuery("SELECT 1 / 0");
      } catch (SQLException error) {
        System.out.println("code=" + error.getSQLState());
      }
    }
  }
}
