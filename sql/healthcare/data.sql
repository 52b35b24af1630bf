-- Fills the reference schema, the same rows each time.
--
--   psql -v ON_ERROR_STOP=1 -v scale=1 -f data.sql       (default scale: 1)
--
-- Scale 1: 10,000 users (1,000 doctors, 100 of pharmacies, 10 admins, the rest patients), 200
-- clinics, 100,000 slots, 20,000 consultations, 10,000 appointments, 500 pharmacies, 20,000 audit
-- rows. All times are relative to 2026-06-01 00:00 UTC, identifiers are made from a kind and a
-- number (md5), so that tests can name rows without looking them up:
--   SELECT md5('doctor 1')::uuid;
-- Fractions are welcome (scale=0.01 for tests); each kind has at least a few rows.

\if :{?scale}
\else
  \set scale 1
\endif

\encoding UTF8
BEGIN;
SET LOCAL synchronous_commit = off;
SET LOCAL TimeZone = 'UTC';
SELECT set_config('healthcare.scale', :'scale', true) IS NOT NULL AS started \gset

CREATE FUNCTION pg_temp.n(per_scale int, minimum int) RETURNS int LANGUAGE sql STABLE AS
  $$ SELECT greatest(minimum,
       ceil(per_scale * current_setting('healthcare.scale')::numeric)::int) $$;
CREATE FUNCTION pg_temp.key(kind text, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
  $$ SELECT md5(kind || ' ' || number)::uuid $$;
-- Element `number` of a list, round and round.
CREATE FUNCTION pg_temp.pick(list text[], number bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
  $$ SELECT list[1 + number % cardinality(list)] $$;
-- A number that looks random and depends on the arguments alone, from 0 to below `bound`.
CREATE FUNCTION pg_temp.mix(salt text, number bigint, bound int) RETURNS int LANGUAGE sql IMMUTABLE
  AS $$ SELECT abs(hashtextextended(salt, number) % bound)::int $$;
CREATE FUNCTION pg_temp.epoch() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
  $$ SELECT timestamptz '2026-06-01 00:00:00+00' $$;

CREATE TEMP TABLE lists ON COMMIT DROP AS SELECT
  ARRAY['Aarav','Ananya','Arjun','Diya','Ishaan','Kavya','Meera','Nikhil','Priya','Rahul','Rohan',
        'Saanvi','Sneha','Vihaan','Zara','Amir','Fatima','Grace','Henry','Joël','Lucía','Marta',
        'Noah','Olga','Pavel','Ruth','Sofía','Tomás','Uma','Wei'] AS given,
  ARRAY['Agarwal','Bose','Chatterjee','Desai','Fernandes','Gupta','Hegde','Iyer','Joshi','Kapoor',
        'Khan','Kulkarni','Malhotra','Mehta','Menon','Nair','Patel','Pillai','Rao','Reddy','Shah',
        'Sharma','Singh','Varma','Müller','O''Brien','García','Nguyen','Okafor','Kowalski']
    AS family,
  ARRAY['General Medicine','Cardiology','Dermatology','Pediatrics','Orthopedics','Gynecology',
        'Neurology','Psychiatry','ENT','Ophthalmology'] AS specialization,
  ARRAY['Mumbai','Pune','Bengaluru','Hyderabad','Chennai','Kolkata','Delhi','Ahmedabad'] AS city,
  ARRAY['Maharashtra','Maharashtra','Karnataka','Telangana','Tamil Nadu','West Bengal','Delhi',
        'Gujarat'] AS state,
  ARRAY[19.0760, 18.5204, 12.9716, 17.3850, 13.0827, 22.5726, 28.6139, 23.0225] AS latitude,
  ARRAY[72.8777, 73.8567, 77.5946, 78.4867, 80.2707, 88.3639, 77.2090, 72.5714] AS longitude,
  ARRAY['MG Road','Station Road','Park Street','Lake View Road','Temple Street','Ring Road',
        'College Road','Hill Road'] AS street;

-- Users: doctors first, then pharmacies' people, admins, patients.
CREATE TEMP TABLE people ON COMMIT DROP AS
SELECT i,
  CASE WHEN i <= pg_temp.n(1000, 20) THEN 'doctor'
       WHEN i <= pg_temp.n(1000, 20) + pg_temp.n(100, 5) THEN 'pharmacy'
       WHEN i <= pg_temp.n(1000, 20) + pg_temp.n(100, 5) + pg_temp.n(10, 2) THEN 'admin'
       ELSE 'patient' END::user_role AS role,
  pg_temp.pick(l.given, pg_temp.mix('given', i, 1000)) AS given,
  pg_temp.pick(l.family, pg_temp.mix('family', i, 1000)) AS family
FROM generate_series(1, pg_temp.n(10000, 100)) AS i, lists l;

INSERT INTO users (id, firebase_uid, email, email_verified, full_name, given_name, family_name,
                   photo_url, phone, role, is_active, is_onboarded, created_at, updated_at,
                   last_login_at)
SELECT pg_temp.key('user', i), 'fb-' || md5('firebase ' || i),
  'user' || i || '@example.org', i % 10 <> 0, given || ' ' || family, given, family,
  CASE WHEN i % 3 = 0 THEN 'https://img.example.org/' || i || '.jpg' END,
  '+91 9' || lpad(pg_temp.mix('phone', i, 1000000000)::text, 9, '0'), role, i % 50 <> 0,
  i % 7 <> 0, c.at, c.at, CASE WHEN i % 4 <> 0 THEN pg_temp.epoch() - make_interval(
    mins => pg_temp.mix('login', i, 60 * 24 * 30)) END
FROM people,
  LATERAL (SELECT pg_temp.epoch()
    - make_interval(hours => pg_temp.mix('created', i, 24 * 700))) AS c(at);

INSERT INTO profiles (id, user_id, date_of_birth, gender, blood_group, address, medical_history,
                      created_at, updated_at)
SELECT pg_temp.key('profile', i), pg_temp.key('user', i),
  date '2005-01-01' - pg_temp.mix('birth', i, 365 * 60),
  pg_temp.pick(ARRAY['female', 'male', 'female', 'male', 'other', 'undisclosed'],
    pg_temp.mix('gender', i, 600)),
  pg_temp.pick(ARRAY['O+', 'B+', 'A+', 'AB+', 'O-', 'B-', 'A-', 'AB-'],
    pg_temp.mix('blood', i, 800)),
  jsonb_build_object('line', 1 + i % 200 || ' ' || pg_temp.pick(l.street, i), 'city',
    pg_temp.pick(l.city, i), 'state', pg_temp.pick(l.state, i), 'pincode',
    (400000 + pg_temp.mix('pin', i, 99999))::text),
  jsonb_build_object('allergies', CASE WHEN i % 5 = 0 THEN '["penicillin"]'::jsonb ELSE '[]' END,
    'conditions', CASE WHEN i % 8 = 0 THEN '["hypertension", "diabetes"]'::jsonb
                       WHEN i % 3 = 0 THEN '["asthma"]' ELSE '[]' END),
  pg_temp.epoch() - interval '90 days', pg_temp.epoch() - interval '90 days'
FROM people, lists l WHERE role IN ('patient', 'doctor');

INSERT INTO doctors (id, user_id, license_number, specialization, experience_years,
                     consultation_fee, rating, is_verified, bio, created_at, updated_at)
SELECT pg_temp.key('doctor', i), pg_temp.key('user', i), 'MCI-' || lpad(i::text, 7, '0'),
  pg_temp.pick(l.specialization, i), 1 + pg_temp.mix('years', i, 40),
  300 + 50 * pg_temp.mix('fee', i, 35), 2.5 + pg_temp.mix('rating', i, 250) / 100.0, i % 10 <> 0,
  format('%s with %s patients seen in %s.', pg_temp.pick(l.specialization, i),
    100 * (1 + pg_temp.mix('seen', i, 90)), pg_temp.pick(l.city, i)),
  pg_temp.epoch() - interval '400 days', pg_temp.epoch() - interval '40 days'
FROM people, lists l WHERE role = 'doctor';

INSERT INTO clinics (id, name, status, address_line, city, state, pincode, phone, created_at,
                     updated_at)
SELECT pg_temp.key('clinic', i),
  pg_temp.pick(l.city, i) || ' ' || pg_temp.pick(
    ARRAY['Care', 'Family', 'City', 'Lotus', 'Sunrise'], pg_temp.mix('clinic', i, 500))
    || ' Clinic ' || i,
  CASE WHEN i % 12 = 0 THEN 'inactive' ELSE 'active' END::clinic_status,
  i || ' ' || pg_temp.pick(l.street, i), pg_temp.pick(l.city, i), pg_temp.pick(l.state, i),
  (400000 + i)::text, '+91 22 ' || lpad(i::text, 8, '4'), pg_temp.epoch() - interval '500 days',
  pg_temp.epoch() - interval '50 days'
FROM generate_series(1, pg_temp.n(200, 5)) AS i, lists l;

INSERT INTO doctor_clinics (doctor_id, clinic_id, is_primary, created_at)
SELECT pg_temp.key('doctor', d.i),
  pg_temp.key('clinic', 1 + (d.i * 7 + k) % pg_temp.n(200, 5)), k = 0,
  pg_temp.epoch() - interval '100 days'
FROM people d, generate_series(0, 2) AS k WHERE d.role = 'doctor' AND k <= d.i % 3;

-- A hundred half-hours for each doctor, from nine in the morning on, twenty a day. Every eighth of
-- the first forty is booked: those are the consultations to come.
CREATE TEMP TABLE slots ON COMMIT DROP AS
SELECT d.i AS doctor, s AS number,
  pg_temp.epoch() + make_interval(days => s / 20, mins => 540 + 30 * (s % 20)) AS starts_at,
  s < 40 AND (s + d.i) % 8 = 0 AS is_booked
FROM people d, generate_series(0, 99) AS s WHERE d.role = 'doctor';

INSERT INTO availability_slots (id, doctor_id, starts_at, ends_at, is_booked, version, created_at,
                                updated_at)
SELECT pg_temp.key('slot', doctor * 100 + number), pg_temp.key('doctor', doctor), starts_at,
  starts_at + interval '30 minutes', is_booked, 1 + is_booked::int,
  pg_temp.epoch() - interval '7 days', pg_temp.epoch() - interval '1 day'
FROM slots;

CREATE TEMP TABLE visits ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY doctor, scheduled_at) AS number, *
FROM (
  SELECT doctor, starts_at AS scheduled_at, 'scheduled' AS status FROM slots WHERE is_booked
  UNION ALL
  SELECT d.i, pg_temp.epoch() - make_interval(days => 1 + k, mins => 30 * ((d.i + k) % 16)),
    pg_temp.pick(ARRAY['completed', 'completed', 'completed', 'completed', 'cancelled', 'no_show'],
      pg_temp.mix('visit', d.i * 100 + k, 600))
  FROM people d, generate_series(0, 14) AS k WHERE d.role = 'doctor') AS v;

CREATE TEMP TABLE patients ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY i) - 1 AS number, i, given, family FROM people
WHERE role = 'patient';
ALTER TABLE patients ADD PRIMARY KEY (number);

INSERT INTO consultations (id, patient_id, doctor_id, scheduled_at, status, fee, notes, created_at,
                           updated_at)
SELECT pg_temp.key('consultation', v.number), pg_temp.key('user', p.i),
  pg_temp.key('doctor', v.doctor), v.scheduled_at, v.status::consultation_status,
  d.consultation_fee, CASE WHEN v.status = 'completed' THEN 'Seen, follow up if needed.' END,
  v.scheduled_at - interval '3 days', v.scheduled_at - interval '3 days'
FROM visits v
JOIN doctors d ON d.id = pg_temp.key('doctor', v.doctor)
JOIN patients p ON p.number = pg_temp.mix('patient', v.number, 1000000)
  % (SELECT count(*) FROM patients);

INSERT INTO payments (id, consultation_id, transaction_id, amount, status, created_at, updated_at)
SELECT pg_temp.key('payment', v.number), pg_temp.key('consultation', v.number),
  'txn-' || lpad(v.number::text, 10, '0'), c.fee,
  CASE v.status WHEN 'cancelled' THEN 'refunded' ELSE 'paid' END::payment_status, c.created_at,
  c.created_at
FROM visits v JOIN consultations c ON c.id = pg_temp.key('consultation', v.number);

INSERT INTO prescriptions (id, consultation_id, medicines, advice, created_at, updated_at)
SELECT pg_temp.key('prescription', v.number), pg_temp.key('consultation', v.number),
  jsonb_build_array(jsonb_build_object(
    'name', pg_temp.pick(ARRAY['Paracetamol', 'Amoxicillin', 'Cetirizine', 'Metformin', 'Atenolol'],
      v.number), 'dose', pg_temp.pick(ARRAY['250 mg', '500 mg', '10 mg'], v.number), 'days',
    3 + v.number % 12)),
  'Rest, fluids.', v.scheduled_at, v.scheduled_at
FROM visits v WHERE v.status = 'completed';

INSERT INTO appointments (id, patient_id, doctor_id, clinic_id, doctor_name, clinic_name,
                          appointment_at, appointment_end, reason, contact_phone, status, notes,
                          source, cancelled_at, deleted_at, created_at, updated_at)
SELECT pg_temp.key('appointment', a), pg_temp.key('user', p.i), pg_temp.key('doctor', d.i),
  c.id, 'Dr. ' || d.given || ' ' || d.family, c.name, w.at, w.at + interval '20 minutes',
  pg_temp.pick(ARRAY['Fever', 'Back pain', 'Check-up', 'Rash', 'Headache', 'Vaccination'], a),
  '+91 98' || lpad((a % 100000000)::text, 8, '0'), w.status::appointment_status, NULL,
  pg_temp.pick(ARRAY['app', 'app', 'web', 'phone'], a),
  CASE WHEN w.status = 'cancelled' THEN w.at - interval '1 day' END,
  CASE WHEN a % 40 = 0 THEN w.at END, w.at - interval '10 days', w.at - interval '10 days'
FROM generate_series(1, pg_temp.n(10000, 100)) AS a
JOIN patients p ON p.number = a % (SELECT count(*) FROM patients)
JOIN people d ON d.i = 1 + a % pg_temp.n(1000, 20)
JOIN clinics c ON c.id = pg_temp.key('clinic', 1 + (d.i * 7) % pg_temp.n(200, 5)),
LATERAL (SELECT
  pg_temp.epoch() + make_interval(hours => pg_temp.mix('appointment', a, 24 * 120) - 24 * 60) AS at,
  pg_temp.pick(ARRAY['confirmed', 'confirmed', 'pending', 'completed', 'cancelled'],
    pg_temp.mix('status', a, 500)) AS status) AS w;

INSERT INTO pharmacies (id, name, description, phone, email, is_verified, is_active, rating,
                        rating_count, supports_delivery, supports_pickup, created_at, updated_at)
SELECT pg_temp.key('pharmacy', i), pg_temp.pick(ARRAY['Apollo', 'MedPlus', 'Wellness', 'Sanjivani',
    'Green Cross', 'Jan Aushadhi'], i) || ' Pharmacy ' || i, 'Prescription and general medicines',
  '+91 20 ' || lpad(i::text, 8, '2'), 'pharmacy' || i || '@example.org', i % 4 <> 0, i % 25 <> 0,
  3 + pg_temp.mix('stars', i, 200) / 100.0, pg_temp.mix('votes', i, 900), i % 2 = 0, i % 9 <> 0,
  pg_temp.epoch() - interval '300 days', pg_temp.epoch() - interval '30 days'
FROM generate_series(1, pg_temp.n(500, 20)) AS i;

INSERT INTO pharmacy_locations (id, pharmacy_id, address_line, city, state, pincode, latitude,
                                longitude, geo, created_at, updated_at)
SELECT pg_temp.key('location', i), pg_temp.key('pharmacy', i),
  i || ' ' || pg_temp.pick(l.street, i),
  pg_temp.pick(l.city, i), pg_temp.pick(l.state, i), (400000 + i)::text, g.lat, g.lon,
  ST_SetSRID(ST_MakePoint(g.lon, g.lat), 4326)::geography, pg_temp.epoch() - interval '300 days',
  pg_temp.epoch() - interval '30 days'
FROM generate_series(1, pg_temp.n(500, 20)) AS i, lists l,
LATERAL (SELECT
  (l.latitude[1 + i % 8] + (pg_temp.mix('lat', i, 1000) - 500) / 5000.0)::float8 AS lat,
  (l.longitude[1 + i % 8] + (pg_temp.mix('lon', i, 1000) - 500) / 5000.0)::float8 AS lon) AS g;

INSERT INTO pharmacy_hours (id, pharmacy_id, day_of_week, open_time, close_time, is_closed)
SELECT pg_temp.key('hours', i * 7 + d), pg_temp.key('pharmacy', i), d,
  CASE WHEN d > 0 OR i % 3 = 0 THEN time '08:00' + make_interval(mins => 30 * (i % 4)) END,
  CASE WHEN d > 0 OR i % 3 = 0 THEN time '20:00' + make_interval(mins => 30 * (i % 6)) END,
  d = 0 AND i % 3 <> 0
FROM generate_series(1, pg_temp.n(500, 20)) AS i, generate_series(0, 6) AS d;

INSERT INTO push_tokens (id, user_id, token, platform, is_active, created_at, updated_at)
SELECT pg_temp.key('push', i), pg_temp.key('user', i), 'push-' || md5('push ' || i),
  pg_temp.pick(ARRAY['android', 'android', 'ios', 'web'], i), i % 6 <> 0,
  pg_temp.epoch() - interval '60 days', pg_temp.epoch() - interval '20 days'
FROM people WHERE i % 2 = 0;

INSERT INTO notifications (id, user_id, title, body, data, status, sent_at, created_at)
SELECT pg_temp.key('notification', p.number * 2 + k), pg_temp.key('user', p.i),
  pg_temp.pick(ARRAY['Reminder', 'Prescription ready'], k),
  pg_temp.pick(ARRAY['Your appointment is tomorrow.', 'Your prescription can be picked up.'], k),
  jsonb_build_object('kind', pg_temp.pick(ARRAY['appointment', 'prescription'], k)),
  pg_temp.pick(ARRAY['sent', 'read', 'queued'], p.number + k)::notification_status,
  CASE WHEN (p.number + k) % 3 < 2 THEN t.at END, t.at
FROM patients p, generate_series(0, 1) AS k,
LATERAL (SELECT pg_temp.epoch()
  - make_interval(hours => pg_temp.mix('sent', p.number * 2 + k, 2000)) AS at) AS t;

INSERT INTO audit_logs (actor_id, action, entity, entity_id, detail, created_at)
SELECT pg_temp.key('user', 1 + pg_temp.mix('actor', i, 1000000) % pg_temp.n(10000, 100)),
  pg_temp.pick(ARRAY['login', 'view', 'update', 'book', 'cancel'], i),
  pg_temp.pick(ARRAY['user', 'doctor', 'profile', 'consultation', 'appointment'], i),
  pg_temp.key('entity', i)::text, jsonb_build_object('ip', format('10.%s.%s.%s', i % 7, i % 251,
    1 + i % 253)),
  timestamptz '2026-01-01 00:00:00+00'
    + make_interval(mins => pg_temp.mix('audit', i, 60 * 24 * 150))
FROM generate_series(1, pg_temp.n(20000, 200)) AS i;

COMMIT;
ANALYZE;
