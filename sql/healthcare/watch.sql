-- Watches the reference schema. The key columns are those by which the applications read: a write
-- then leaves alone what was read under other values of them.
--
--   psql -v ON_ERROR_STOP=1 -f install.sql -f healthcare/watch.sql

BEGIN;
SELECT w.name AS watched, pgfresh.watch(w.name::regclass, w.columns::name[]) AS key_columns
FROM (VALUES
  ('public.users', '{id,firebase_uid,email}'),
  ('public.profiles', '{id,user_id}'),
  ('public.doctors', '{id,user_id,specialization}'),
  ('public.clinics', '{id,city}'),
  ('public.doctor_clinics', '{doctor_id,clinic_id}'),
  ('public.availability_slots', '{id,doctor_id}'),
  ('public.consultations', '{id,patient_id,doctor_id}'),
  ('public.prescriptions', '{id,consultation_id}'),
  ('public.payments', '{id,consultation_id,transaction_id}'),
  ('public.appointments', '{id,patient_id,doctor_id}'),
  ('public.pharmacies', '{id}'),
  ('public.pharmacy_locations', '{id,pharmacy_id,city}'),
  ('public.pharmacy_hours', '{pharmacy_id}'),
  ('public.push_tokens', '{id,user_id,token}'),
  ('public.notifications', '{id,user_id}'),
  ('public.audit_logs', '{entity_id}')) AS w(name, columns)
ORDER BY w.name;

-- What ST_DWithin and the like on geographies read, too. It belongs to whoever created the extension.
DO $$
BEGIN
  PERFORM pgfresh.watch('public.spatial_ref_sys', '{srid}');
EXCEPTION WHEN insufficient_privilege OR undefined_table THEN
  RAISE NOTICE 'spatial_ref_sys is not watched: %', SQLERRM;
END
$$;
COMMIT;
