-- Takes the reference schema out again, with its rows; PostGIS stays, others may use it.
--
--   psql -v ON_ERROR_STOP=1 -f drop.sql

BEGIN;
SET LOCAL client_min_messages = warning;
DROP TABLE IF EXISTS audit_logs, notifications, push_tokens, pharmacy_hours, pharmacy_locations,
  pharmacies, appointments, payments, prescriptions, consultations, availability_slots,
  doctor_clinics, clinics, doctors, profiles, users CASCADE;
DROP FUNCTION IF EXISTS audit_logs_add_month(date);
DROP FUNCTION IF EXISTS touch_updated_at();
DROP TYPE IF EXISTS user_role, clinic_status, consultation_status, payment_status,
  appointment_status, notification_status;
COMMIT;
