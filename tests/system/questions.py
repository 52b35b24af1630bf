"""What applications ask, in the words of those who ask it: hand-written SQL, SQLAlchemy, Django,
Rails, Hibernate, Prisma, on the healthcare schema and on the tables of play.sql. All of it must be
cacheable, and each answer is in one order only.
"""
import pathlib

HEALTHCARE = pathlib.Path(__file__).parent.parent.parent / "sql" / "healthcare"

VIEWS = """
CREATE VIEW doctor_card AS
  SELECT d.id, u.full_name, d.specialization, d.rating, u.created_at::date AS since
  FROM doctors d JOIN users u ON u.id = d.user_id WHERE d.is_verified;
CREATE VIEW best_doctor WITH (security_barrier) AS SELECT * FROM doctor_card WHERE rating >= 3;
CREATE RECURSIVE VIEW countdown (n) AS
  SELECT max(experience_years) FROM doctors UNION ALL SELECT n - 1 FROM countdown WHERE n > 0;
CREATE VIEW by_month WITH (security_invoker) AS
  SELECT date_trunc('month', appointment_at) AS month, status, count(*) AS number
  FROM appointments WHERE deleted_at IS NULL GROUP BY GROUPING SETS ((1, 2), (1));
"""


def install(server, database, connection):
    server.psql(file=HEALTHCARE / "schema.sql", database=database)
    server.psql(file=HEALTHCARE / "data.sql", database=database, variables={"scale": "0.01"})
    server.psql(file=HEALTHCARE / "watch.sql", database=database)
    connection.execute(VIEWS)
    connection.execute("CREATE FUNCTION initials(text) RETURNS text LANGUAGE sql IMMUTABLE AS "
                       "$$ SELECT left($1, 1) $$")
    connection.execute("ANALYZE")


QUESTIONS = [
    # hand-written
    "SELECT * FROM users WHERE id = md5('user 1')::uuid",
    "SELECT count(*) FROM doctors",
    "SELECT count(*) AS total FROM appointments WHERE deleted_at IS NULL AND status <> 'cancelled'",
    "SELECT EXISTS (SELECT 1 FROM users WHERE email = 'nobody@example.org')",
    "SELECT d.id, u.full_name, d.rating FROM doctors d INNER JOIN users u ON u.id = d.user_id "
    "WHERE d.specialization ILIKE '%card%' AND d.is_verified ORDER BY d.rating DESC NULLS LAST, d.id "
    "LIMIT 20 OFFSET 0",
    "SELECT coalesce(avg(rating), 0)::numeric(10, 2), min(rating), max(rating) FROM doctors",
    "SELECT status, count(*) FILTER (WHERE fee > 100) AS dear, sum(fee) FROM consultations "
    "GROUP BY status HAVING count(*) > 0 ORDER BY status",
    "SELECT date_trunc('week', scheduled_at) AS week, count(*) FROM consultations GROUP BY 1 "
    "ORDER BY 1",
    "SELECT scheduled_at::date AS day, count(*) FROM consultations GROUP BY scheduled_at::date "
    "ORDER BY day",
    "SELECT to_char(scheduled_at, 'YYYY-MM-DD HH24:MI'), extract(dow FROM scheduled_at)::int "
    "FROM consultations ORDER BY id LIMIT 10",
    "SELECT scheduled_at AT TIME ZONE 'Asia/Kolkata' FROM consultations ORDER BY id LIMIT 10",
    "SELECT id FROM availability_slots WHERE starts_at >= '2026-06-01'::timestamptz AND "
    "starts_at < '2026-06-01'::timestamptz + interval '7 days' AND NOT is_booked "
    "ORDER BY starts_at, id LIMIT 50",
    "SELECT id, ends_at - starts_at AS length FROM availability_slots ORDER BY id LIMIT 5",
    "SELECT id FROM users WHERE id = ANY (ARRAY['6d7a1e8a-0000-0000-0000-000000000000', "
    "'00000000-0000-0000-0000-000000000001']::uuid[])",
    "SELECT id FROM users WHERE id IN ('6d7a1e8a-0000-0000-0000-000000000000', "
    "'00000000-0000-0000-0000-000000000001')",
    "SELECT json_agg(row_to_json(d)) FROM (SELECT id, rating FROM doctors ORDER BY id LIMIT 3) d",
    "SELECT jsonb_build_object('id', d.id, 'clinics', (SELECT jsonb_agg(jsonb_build_object('name', "
    "c.name, 'city', c.city) ORDER BY c.name, c.id) FROM doctor_clinics dc JOIN clinics c "
    "ON c.id = dc.clinic_id WHERE dc.doctor_id = d.id)) FROM doctors d ORDER BY d.id LIMIT 5",
    "SELECT string_agg(name, ', ' ORDER BY name, id) FROM clinics WHERE status = 'active'",
    "SELECT CASE WHEN rating >= 4.5 THEN 'top' WHEN rating >= 3 THEN 'good' ELSE 'new' END AS tier, "
    "count(*) FROM doctors GROUP BY tier ORDER BY tier",
    "SELECT DISTINCT ON (doctor_id) doctor_id, starts_at FROM availability_slots "
    "ORDER BY doctor_id, starts_at",
    "SELECT DISTINCT city FROM clinics ORDER BY city",
    "WITH busy AS (SELECT doctor_id, count(*) AS n FROM consultations GROUP BY doctor_id) "
    "SELECT d.id, coalesce(b.n, 0) FROM doctors d LEFT JOIN busy b ON b.doctor_id = d.id "
    "ORDER BY 2 DESC, 1 LIMIT 10",
    "WITH RECURSIVE days(day) AS (SELECT min(starts_at)::date FROM availability_slots UNION ALL "
    "SELECT day + 1 FROM days WHERE day < '2026-06-20'::date) SELECT day FROM days ORDER BY day",
    "SELECT d.id, s.starts_at FROM doctors d CROSS JOIN LATERAL (SELECT starts_at FROM "
    "availability_slots a WHERE a.doctor_id = d.id ORDER BY starts_at LIMIT 1) s ORDER BY d.id",
    "SELECT id, rank() OVER (PARTITION BY specialization ORDER BY rating DESC, id), "
    "lag(rating) OVER w, sum(rating) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) "
    "FROM doctors WINDOW w AS (ORDER BY id) ORDER BY id",
    "SELECT specialization, is_verified, count(*), grouping(specialization, is_verified) FROM "
    "doctors GROUP BY CUBE (specialization, is_verified) ORDER BY 1, 2, 4",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY rating), mode() WITHIN GROUP (ORDER BY "
    "specialization) FROM doctors",
    "SELECT id FROM users UNION SELECT user_id FROM doctors EXCEPT SELECT user_id FROM profiles "
    "ORDER BY 1 LIMIT 5",
    "SELECT id FROM users WHERE full_name || ' ' || email ILIKE '%a%' ORDER BY lower(email) LIMIT 5",
    "SELECT address ->> 'city', address #>> '{city}', address ? 'city', address @> '{}', "
    "jsonb_typeof(address) FROM profiles ORDER BY id LIMIT 5",
    "SELECT m ->> 'name' FROM prescriptions p, jsonb_array_elements(p.medicines) AS m "
    "ORDER BY p.id, 1 LIMIT 5",
    "SELECT key, value FROM profiles p, jsonb_each_text(p.address) WHERE p.user_id IN "
    "(SELECT id FROM users) ORDER BY p.id, key LIMIT 5",
    "SELECT id FROM clinics WHERE to_tsvector('english', name || ' ' || coalesce(address_line, '')) "
    "@@ plainto_tsquery('english', 'clinic') ORDER BY id",
    "SELECT ts_rank(to_tsvector(name), websearch_to_tsquery('health')) FROM clinics ORDER BY id",
    "SELECT ARRAY(SELECT specialization FROM doctors ORDER BY 1), ARRAY[1, 2] || 3, "
    "(ARRAY['a', 'b'])[1] FROM users ORDER BY id LIMIT 1",
    "SELECT (id, email) FROM users ORDER BY id LIMIT 2",
    "SELECT ROW(1, 'x'), u FROM users u ORDER BY id LIMIT 2",
    "SELECT * FROM users WHERE (created_at, id) < ('2027-01-01', "
    "'ffffffff-0000-0000-0000-000000000000') ORDER BY created_at DESC, id DESC LIMIT 20",
    "VALUES ((SELECT count(*) FROM users)), ((SELECT count(*) FROM doctors))",
    "TABLE clinics ORDER BY id",
    "SELECT initials(full_name), count(*) FROM users GROUP BY 1 ORDER BY 1",
    "SELECT day_of_week, open_time, close_time, close_time - open_time, to_char(open_time, 'HH24:MI') "
    "FROM pharmacy_hours ORDER BY pharmacy_id, day_of_week LIMIT 7",
    "SELECT id FROM pharmacy_hours WHERE open_time <= '09:30' AND close_time > time '09:30' "
    "ORDER BY id LIMIT 5",
    "SELECT id FROM clinics WHERE name % 'clinic' OR 'care' <% name ORDER BY id",
    # partitions and members
    "SELECT count(*), max(created_at) FROM audit_logs",
    "SELECT count(*) FROM ONLY audit_logs",
    "SELECT count(*) FROM audit_logs_default",
    # views
    "SELECT * FROM doctor_card ORDER BY id",
    "SELECT * FROM best_doctor WHERE specialization IS NOT NULL ORDER BY rating DESC, id LIMIT 5",
    "SELECT n FROM countdown ORDER BY n LIMIT 5",
    "SELECT month, status, number FROM by_month ORDER BY 1, 2",
    "SELECT c.since, count(*) FROM doctor_card c JOIN doctors d USING (id) GROUP BY c.since "
    "ORDER BY 1",
    # PostGIS
    "SELECT l.id, ST_Distance(l.geo, ST_SetSRID(ST_MakePoint(77.59, 12.97), 4326)::geography) AS m "
    "FROM pharmacy_locations l WHERE ST_DWithin(l.geo, "
    "ST_SetSRID(ST_MakePoint(77.59, 12.97), 4326)::geography, 50000) ORDER BY m, l.id LIMIT 10",
    "SELECT ST_AsText(geo), ST_AsGeoJSON(geo)::jsonb, ST_Y(geo::geometry) FROM pharmacy_locations "
    "ORDER BY id LIMIT 3",
    # SQLAlchemy
    "SELECT users.id, users.email, anon_1.count_1 FROM users LEFT OUTER JOIN (SELECT "
    "consultations.patient_id AS patient_id, count(*) AS count_1 FROM consultations GROUP BY "
    "consultations.patient_id) AS anon_1 ON users.id = anon_1.patient_id ORDER BY users.id \n LIMIT 10",
    "SELECT count(*) AS count_1 \nFROM (SELECT doctors.id AS id FROM doctors WHERE "
    "doctors.is_verified IS true) AS anon_1",
    "SELECT CAST(users.created_at AS DATE) AS created_at, count(users.id) AS n FROM users "
    "GROUP BY CAST(users.created_at AS DATE) ORDER BY CAST(users.created_at AS DATE)",
    # Django
    "SELECT \"users\".\"id\", \"users\".\"email\" FROM \"users\" WHERE (\"users\".\"is_active\" AND "
    "UPPER(\"users\".\"full_name\"::text) LIKE UPPER('%an%') AND NOT (\"users\".\"role\" IN "
    "('admin'))) ORDER BY \"users\".\"id\" ASC LIMIT 21",
    "SELECT 1 AS \"a\" FROM \"doctors\" WHERE \"doctors\".\"rating\" >= '4.0' LIMIT 1",
    "SELECT DATE_TRUNC('month', \"users\".\"created_at\" AT TIME ZONE 'UTC') AS \"m\", "
    "COUNT(\"users\".\"id\") AS \"c\" FROM \"users\" GROUP BY 1 ORDER BY 1 ASC",
    "SELECT (\"users\".\"created_at\" AT TIME ZONE 'UTC')::date AS \"d\" FROM \"users\" WHERE "
    "EXTRACT(MONTH FROM \"users\".\"created_at\" AT TIME ZONE 'UTC') = 6 ORDER BY \"users\".\"id\"",
    # Rails
    "SELECT \"users\".* FROM \"users\" WHERE \"users\".\"email\" = 'x@y.org' ORDER BY "
    "\"users\".\"id\" ASC LIMIT 1",
    "SELECT 1 AS one FROM \"users\" WHERE \"users\".\"role\" = 'admin' LIMIT 1",
    "SELECT COUNT(*) AS \"count_all\", \"users\".\"role\" AS \"users_role\" FROM \"users\" GROUP BY "
    "\"users\".\"role\" ORDER BY 2",
    # Hibernate
    "select u1_0.id,u1_0.email,p1_0.gender from users u1_0 left join profiles p1_0 on "
    "u1_0.id=p1_0.user_id where u1_0.email like 'a%' escape '' order by u1_0.id offset 0 rows fetch "
    "first 10 rows only",
    # Prisma
    "SELECT \"t1\".\"id\", \"t1\".\"email\" FROM \"public\".\"users\" AS \"t1\" WHERE (1=1 AND "
    "(\"t1\".\"id\") IN (SELECT \"t2\".\"user_id\" FROM \"public\".\"doctors\" AS \"t2\" WHERE "
    "(\"t2\".\"is_verified\" = true AND \"t2\".\"user_id\" IS NOT NULL))) ORDER BY \"t1\".\"id\" ASC "
    "LIMIT 10 OFFSET 0",
    "SELECT COALESCE(JSONB_AGG(\"__prisma_data__\"), '[]') AS \"__prisma_data__\" FROM (SELECT "
    "\"t3\".\"__prisma_data__\" FROM (SELECT JSONB_BUILD_OBJECT('id', \"t2\".\"id\", 'at', "
    "\"t2\".\"starts_at\") AS \"__prisma_data__\", \"t2\".\"id\" FROM (SELECT \"t1\".* FROM "
    "\"public\".\"availability_slots\" AS \"t1\" ORDER BY \"t1\".\"id\" LIMIT 3) AS \"t2\") AS \"t3\" "
    "ORDER BY \"t3\".\"id\") AS \"t4\"",
    # every type of play.sql
    "SELECT * FROM kinds ORDER BY id",
]

WITH_PARAMETERS = [
    ("SELECT * FROM doctors WHERE id = $1", ["00000000-0000-0000-0000-000000000001"]),
    ("SELECT id FROM users WHERE id = ANY ($1::uuid[]) ORDER BY id",
     ["{00000000-0000-0000-0000-000000000001}"]),
    ("SELECT id FROM users WHERE role = ANY ($1) ORDER BY id LIMIT $2 OFFSET $3",
     ["{doctor,admin}", "5", "2"]),
    ("SELECT id FROM users WHERE email ILIKE $1 OR ($2::text IS NULL AND phone = $2) ORDER BY id",
     ["%a%", None]),
    ("SELECT id FROM availability_slots WHERE starts_at BETWEEN $1 AND $2 AND is_booked = $3 "
     "ORDER BY starts_at, id LIMIT $4", ["2026-06-01", "2026-06-08 12:00+02", "f", "20"]),
    ("SELECT date_trunc($1, scheduled_at)::date, count(*) FROM consultations WHERE fee > $2 "
     "GROUP BY 1 ORDER BY 1", ["week", "10.5"]),
    ("SELECT l.id FROM pharmacy_locations l WHERE ST_DWithin(l.geo, ST_SetSRID(ST_MakePoint($1, $2), "
     "4326)::geography, $3) ORDER BY l.id", ["77.59", "12.97", "50000"]),
    ("SELECT * FROM best_doctor WHERE specialization = $1 ORDER BY id", ["cardiology"]),
    ("SELECT id FROM clinics WHERE name % $1 ORDER BY similarity(name, $1) DESC, id", ["clinic"]),
    ("SELECT id FROM profiles WHERE address @> $1 AND date_of_birth < $2::date ORDER BY id",
     ['{"city": "Pune"}', "2000-01-01"]),
]
