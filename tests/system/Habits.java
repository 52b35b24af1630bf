// JDBC by habit, for test_driver_habits.py: prints what it is told, a line each.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;

public class Habits {
  static final String BY_ID = "SELECT * FROM habit WHERE id = ?";

  static String rows(ResultSet rows) throws SQLException {
    StringBuilder out = new StringBuilder();
    int columns = rows.getMetaData().getColumnCount();
    while (rows.next()) {
      for (int column = 1; column <= columns; column++) {
        out.append(rows.getString(column)).append(column < columns ? "," : ";");
      }
    }
    return out.toString();
  }

  static void ask(PreparedStatement statement, int id) {
    try {
      statement.setInt(1, id);
      try (ResultSet rows = statement.executeQuery()) {
        System.out.println(rows(rows));
      }
    } catch (SQLException error) {
      System.out.println(error.getSQLState() + " " + error.getMessage());
    }
  }

  public static void main(String[] arguments) throws Exception {
    try (Connection one = DriverManager.getConnection(arguments[0]);
         Connection other = DriverManager.getConnection(arguments[0]);
         Statement change = other.createStatement();
         PreparedStatement byId = one.prepareStatement(BY_ID);
         PreparedStatement many =
             one.prepareStatement("SELECT id, name FROM habit WHERE id > ? ORDER BY id")) {
      for (int turn = 0; turn < 8; turn++) {
        ask(byId, 1 + turn % 2);
        ask(many, 25);
      }
      one.setAutoCommit(false);
      many.setFetchSize(3);
      for (int turn = 0; turn < 3; turn++) {  // a portal with row limits, and reads in between
        many.setInt(1, 20);
        try (ResultSet rows = many.executeQuery()) {
          for (int n = 0; rows.next(); n++) {
            System.out.println(rows.getString(2));
            if (n % 4 == 0) ask(byId, 1);
            if (turn == 1 && n == 5) break;
          }
        }
        one.commit();
      }
      try (Statement statement = one.createStatement()) {
        Savepoint point = one.setSavepoint();
        statement.executeUpdate("UPDATE habit SET name = 'inner' WHERE id = 1");
        ask(byId, 1);
        one.rollback(point);
        ask(byId, 1);
        try {
          statement.executeUpdate("INSERT INTO habit VALUES (1)");
        } catch (SQLException error) {
          System.out.println(error.getSQLState() + " " + error.getMessage());
        }
        ask(byId, 1);  // in a block that has failed
        one.rollback();
        ask(byId, 1);
        one.commit();
        one.setAutoCommit(true);
        statement.setQueryTimeout(1);
        try {
          statement.executeQuery("SELECT count(*) FROM habit, pg_sleep(20)");
        } catch (SQLException error) {
          System.out.println(error.getSQLState() + " " + error.getMessage());
        }
        ask(byId, 2);
      }
      for (String sql : new String[] {"ALTER TABLE habit ADD COLUMN extra int DEFAULT 7",
                                      "ALTER TABLE habit ALTER kind TYPE varchar(9)",
                                      "SET search_path = public"}) {
        change.execute(sql);
        for (int turn = 0; turn < 3; turn++) ask(byId, 1);
      }
      change.execute("ALTER TABLE habit DROP COLUMN extra");
      one.setAutoCommit(false);
      ask(byId, 1);
      ask(byId, 2);
    }
  }
}
