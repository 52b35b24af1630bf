-- The reference schema: what an appointment and pharmacy platform and a consultation platform keep.
-- It knows nothing of pgfresh; watch.sql is the only place where the two meet.
--
--   psql -v ON_ERROR_STOP=1 -f schema.sql
--
-- Into an empty database, as a role that may create the extension postgis.
--
-- Everything is in the schema public, as the applications expect it. audit_logs has a partition for
-- every month of the window below and a default one; audit_logs_add_month() makes further ones.

BEGIN;

CREATE EXTENSION IF NOT EXISTS postgis;

CREATE TYPE user_role AS ENUM ('patient', 'doctor', 'pharmacy', 'admin');
CREATE TYPE clinic_status AS ENUM ('active', 'inactive');
CREATE TYPE consultation_status AS ENUM ('scheduled', 'in_progress', 'completed', 'cancelled',
                                         'no_show');
CREATE TYPE payment_status AS ENUM ('pending', 'paid', 'refunded', 'failed');
CREATE TYPE appointment_status AS ENUM ('pending', 'confirmed', 'completed', 'cancelled');
CREATE TYPE notification_status AS ENUM ('queued', 'sent', 'failed', 'read');

-- The time of the statement, not of the transaction: two updates of one row in one transaction
-- shall differ.
CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END
$$;

CREATE TABLE users (
  id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  firebase_uid   text NOT NULL UNIQUE,
  email          text NOT NULL UNIQUE,
  email_verified boolean NOT NULL DEFAULT false,
  full_name      text NOT NULL,
  given_name     text,
  family_name    text,
  photo_url      text,
  phone          text,
  role           user_role NOT NULL DEFAULT 'patient',
  is_active      boolean NOT NULL DEFAULT true,
  is_onboarded   boolean NOT NULL DEFAULT false,
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now(),
  last_login_at  timestamptz
);
CREATE INDEX users_role_idx ON users (role) WHERE is_active;

CREATE TABLE profiles (
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id         uuid NOT NULL UNIQUE REFERENCES users ON DELETE CASCADE,
  date_of_birth   date,
  gender          text CHECK (gender IN ('female', 'male', 'other', 'undisclosed')),
  blood_group     text CHECK (blood_group IN ('A+', 'A-', 'B+', 'B-', 'AB+', 'AB-', 'O+', 'O-')),
  address         jsonb NOT NULL DEFAULT '{}',
  medical_history jsonb NOT NULL DEFAULT '{}',
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE doctors (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id          uuid NOT NULL UNIQUE REFERENCES users ON DELETE CASCADE,
  license_number   text NOT NULL UNIQUE,
  specialization   text NOT NULL,
  experience_years integer NOT NULL DEFAULT 0 CHECK (experience_years BETWEEN 0 AND 80),
  consultation_fee numeric(10, 2) NOT NULL CHECK (consultation_fee >= 0),
  rating           numeric(3, 2) NOT NULL DEFAULT 0 CHECK (rating BETWEEN 0 AND 5),
  is_verified      boolean NOT NULL DEFAULT false,
  bio              text,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX doctors_listing_idx ON doctors (specialization, rating DESC, id) WHERE is_verified;
CREATE INDEX doctors_rating_idx ON doctors (rating DESC, id);

CREATE TABLE clinics (
  id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name         text NOT NULL,
  status       clinic_status NOT NULL DEFAULT 'active',
  address_line text,
  city         text NOT NULL,
  state        text,
  pincode      text,
  phone        text,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX clinics_city_idx ON clinics (city) WHERE status = 'active';

CREATE TABLE doctor_clinics (
  doctor_id  uuid NOT NULL REFERENCES doctors ON DELETE CASCADE,
  clinic_id  uuid NOT NULL REFERENCES clinics ON DELETE CASCADE,
  is_primary boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (doctor_id, clinic_id)
);
CREATE INDEX doctor_clinics_clinic_idx ON doctor_clinics (clinic_id);

CREATE TABLE availability_slots (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  doctor_id  uuid NOT NULL REFERENCES doctors ON DELETE CASCADE,
  starts_at  timestamptz NOT NULL,
  ends_at    timestamptz NOT NULL,
  is_booked  boolean NOT NULL DEFAULT false,
  version    integer NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (doctor_id, starts_at),
  CHECK (ends_at > starts_at)
);

CREATE TABLE consultations (
  id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  patient_id   uuid NOT NULL REFERENCES users,
  doctor_id    uuid NOT NULL REFERENCES doctors,
  scheduled_at timestamptz NOT NULL,
  status       consultation_status NOT NULL DEFAULT 'scheduled',
  fee          numeric(10, 2) NOT NULL CHECK (fee >= 0),
  notes        text,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (doctor_id, scheduled_at)
);
CREATE INDEX consultations_patient_idx ON consultations (patient_id, scheduled_at DESC);

CREATE TABLE prescriptions (
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  consultation_id uuid NOT NULL UNIQUE REFERENCES consultations ON DELETE CASCADE,
  medicines       jsonb NOT NULL DEFAULT '[]',
  advice          text,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE payments (
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  consultation_id uuid NOT NULL UNIQUE REFERENCES consultations ON DELETE CASCADE,
  transaction_id  text NOT NULL UNIQUE,
  amount          numeric(10, 2) NOT NULL CHECK (amount >= 0),
  status          payment_status NOT NULL DEFAULT 'pending',
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE appointments (
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  patient_id      uuid NOT NULL REFERENCES users,
  doctor_id       uuid NOT NULL REFERENCES doctors,
  clinic_id       uuid REFERENCES clinics,
  doctor_name     text NOT NULL,
  clinic_name     text,
  appointment_at  timestamptz NOT NULL,
  appointment_end timestamptz NOT NULL,
  reason          text,
  contact_phone   text,
  status          appointment_status NOT NULL DEFAULT 'pending',
  notes           text,
  source          text NOT NULL DEFAULT 'app',
  cancelled_at    timestamptz,
  deleted_at      timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX appointments_patient_idx ON appointments (patient_id, appointment_at DESC)
  WHERE deleted_at IS NULL;
CREATE INDEX appointments_doctor_idx ON appointments (doctor_id, appointment_at);

CREATE TABLE pharmacies (
  id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name              text NOT NULL,
  description       text,
  phone             text,
  email             text,
  is_verified       boolean NOT NULL DEFAULT false,
  is_active         boolean NOT NULL DEFAULT true,
  rating            numeric(3, 2) NOT NULL DEFAULT 0,
  rating_count      integer NOT NULL DEFAULT 0,
  supports_delivery boolean NOT NULL DEFAULT false,
  supports_pickup   boolean NOT NULL DEFAULT true,
  created_at        timestamptz NOT NULL DEFAULT now(),
  updated_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE pharmacy_locations (
  id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  pharmacy_id  uuid NOT NULL REFERENCES pharmacies ON DELETE CASCADE,
  address_line text NOT NULL,
  city         text NOT NULL,
  state        text NOT NULL,
  country      text NOT NULL DEFAULT 'India',
  pincode      text NOT NULL,
  latitude     double precision NOT NULL CHECK (latitude BETWEEN -90 AND 90),
  longitude    double precision NOT NULL CHECK (longitude BETWEEN -180 AND 180),
  geo          geography(Point, 4326) NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pharmacy_locations_geo_idx ON pharmacy_locations USING gist (geo);
CREATE INDEX pharmacy_locations_pharmacy_idx ON pharmacy_locations (pharmacy_id);

CREATE TABLE pharmacy_hours (
  id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  pharmacy_id uuid NOT NULL REFERENCES pharmacies ON DELETE CASCADE,
  day_of_week smallint NOT NULL CHECK (day_of_week BETWEEN 0 AND 6),
  open_time   time,
  close_time  time,
  is_closed   boolean NOT NULL DEFAULT false,
  UNIQUE (pharmacy_id, day_of_week)
);

CREATE TABLE push_tokens (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  token      text NOT NULL UNIQUE,
  platform   text NOT NULL CHECK (platform IN ('android', 'ios', 'web')),
  is_active  boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX push_tokens_user_idx ON push_tokens (user_id) WHERE is_active;

CREATE TABLE notifications (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  title      text NOT NULL,
  body       text NOT NULL,
  data       jsonb NOT NULL DEFAULT '{}',
  status     notification_status NOT NULL DEFAULT 'queued',
  sent_at    timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notifications_user_idx ON notifications (user_id, created_at DESC);

CREATE TABLE audit_logs (
  id         bigint GENERATED ALWAYS AS IDENTITY,
  actor_id   uuid,
  action     text NOT NULL,
  entity     text NOT NULL,
  entity_id  text,
  detail     jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX audit_logs_entity_idx ON audit_logs (entity, entity_id, created_at DESC);
CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;

-- A partition for the month of `day`; its name, also when it was there already. Months are UTC's,
-- whatever the session's time zone.
CREATE FUNCTION audit_logs_add_month(day date) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  first date := date_trunc('month', day);
  part text := 'audit_logs_' || to_char(first, 'YYYY_MM');
BEGIN
  IF to_regclass('public.' || part) IS NULL THEN
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.audit_logs '
      'FOR VALUES FROM (%L) TO (%L)', part, first || ' 00:00+00',
      (first + interval '1 month')::date || ' 00:00+00');
  END IF;
  RETURN part;
END
$$;

-- data.sql writes around its own fixed day, applications around today: cover both.
DO $$
BEGIN
  PERFORM audit_logs_add_month((date '2026-01-01' + make_interval(months => m))::date)
  FROM generate_series(0, 11) AS m;
  PERFORM audit_logs_add_month((current_date + make_interval(months => m))::date)
  FROM generate_series(-1, 3) AS m;
END
$$;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['users', 'profiles', 'doctors', 'clinics', 'availability_slots',
    'consultations', 'prescriptions', 'payments', 'appointments', 'pharmacies',
    'pharmacy_locations', 'push_tokens'] LOOP
    EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE ON %I FOR EACH ROW '
      'EXECUTE FUNCTION touch_updated_at()', name || '_touch', name);
  END LOOP;
END
$$;

COMMIT;
