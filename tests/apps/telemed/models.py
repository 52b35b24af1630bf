"""The tables of sql/healthcare/schema.sql that this back end uses."""
from sqlalchemy import (Boolean, Column, Date, DateTime, Enum, Float, ForeignKey, Integer, Numeric,
                        SmallInteger, Text, Time, text)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import declarative_base, relationship
from sqlalchemy.types import BigInteger

Base = declarative_base()


def new_id():
    return Column(UUID(as_uuid=True), primary_key=True, server_default=text("gen_random_uuid()"))


def uuid_of(target, **options):
    return Column(UUID(as_uuid=True), ForeignKey(target), **options)


def moment(**options):
    return Column(DateTime(timezone=True), **options)


class Touched:
    created_at = Column(DateTime(timezone=True), server_default=text("now()"))
    updated_at = Column(DateTime(timezone=True), server_default=text("now()"))


class User(Touched, Base):
    __tablename__ = "users"
    id = new_id()
    firebase_uid = Column(Text, nullable=False)
    email = Column(Text, nullable=False)
    email_verified = Column(Boolean, nullable=False, default=False)
    full_name = Column(Text, nullable=False)
    photo_url = Column(Text)
    phone = Column(Text)
    role = Column(Enum("patient", "doctor", "pharmacy", "admin", name="user_role"))
    is_active = Column(Boolean, nullable=False, default=True)
    is_onboarded = Column(Boolean, nullable=False, default=False)
    last_login_at = moment()
    profile = relationship("Profile", back_populates="user", uselist=False)


class Profile(Touched, Base):
    __tablename__ = "profiles"
    id = new_id()
    user_id = uuid_of("users.id", nullable=False)
    date_of_birth = Column(Date)
    gender = Column(Text)
    blood_group = Column(Text)
    address = Column(JSONB, nullable=False, default=dict)
    medical_history = Column(JSONB, nullable=False, default=dict)
    user = relationship("User", back_populates="profile")


class Doctor(Touched, Base):
    __tablename__ = "doctors"
    id = new_id()
    user_id = uuid_of("users.id", nullable=False)
    license_number = Column(Text, nullable=False)
    specialization = Column(Text, nullable=False)
    experience_years = Column(Integer, nullable=False)
    consultation_fee = Column(Numeric(10, 2), nullable=False)
    rating = Column(Numeric(3, 2), nullable=False)
    is_verified = Column(Boolean, nullable=False)
    bio = Column(Text)
    user = relationship("User")


class Clinic(Touched, Base):
    __tablename__ = "clinics"
    id = new_id()
    name = Column(Text, nullable=False)
    status = Column(Enum("active", "inactive", name="clinic_status"))
    address_line = Column(Text)
    city = Column(Text, nullable=False)


class DoctorClinic(Base):
    __tablename__ = "doctor_clinics"
    doctor_id = uuid_of("doctors.id", primary_key=True)
    clinic_id = uuid_of("clinics.id", primary_key=True)
    is_primary = Column(Boolean, nullable=False, default=False)


class Slot(Touched, Base):
    __tablename__ = "availability_slots"
    id = new_id()
    doctor_id = uuid_of("doctors.id", nullable=False)
    starts_at = moment(nullable=False)
    ends_at = moment(nullable=False)
    is_booked = Column(Boolean, nullable=False, default=False)
    version = Column(Integer, nullable=False, default=1)


class Consultation(Touched, Base):
    __tablename__ = "consultations"
    id = new_id()
    patient_id = uuid_of("users.id", nullable=False)
    doctor_id = uuid_of("doctors.id", nullable=False)
    scheduled_at = moment(nullable=False)
    status = Column(Enum("scheduled", "in_progress", "completed", "cancelled", "no_show",
                         name="consultation_status"), nullable=False, default="scheduled")
    fee = Column(Numeric(10, 2), nullable=False)
    notes = Column(Text)
    payment = relationship("Payment", back_populates="consultation", uselist=False)


class Payment(Touched, Base):
    __tablename__ = "payments"
    id = new_id()
    consultation_id = uuid_of("consultations.id", nullable=False)
    transaction_id = Column(Text, nullable=False)
    amount = Column(Numeric(10, 2), nullable=False)
    status = Column(Enum("pending", "paid", "refunded", "failed", name="payment_status"))
    consultation = relationship("Consultation", back_populates="payment")


class Appointment(Touched, Base):
    __tablename__ = "appointments"
    id = new_id()
    patient_id = uuid_of("users.id", nullable=False)
    doctor_id = uuid_of("doctors.id", nullable=False)
    clinic_id = uuid_of("clinics.id")
    doctor_name = Column(Text, nullable=False)
    clinic_name = Column(Text)
    appointment_at = moment(nullable=False)
    appointment_end = moment(nullable=False)
    reason = Column(Text)
    contact_phone = Column(Text)
    status = Column(Enum("pending", "confirmed", "completed", "cancelled",
                         name="appointment_status"), nullable=False, default="pending")
    source = Column(Text, nullable=False, default="app")
    cancelled_at = moment()
    deleted_at = moment()


class Pharmacy(Touched, Base):
    __tablename__ = "pharmacies"
    id = new_id()
    name = Column(Text, nullable=False)
    phone = Column(Text)
    is_verified = Column(Boolean, nullable=False)
    is_active = Column(Boolean, nullable=False)
    rating = Column(Numeric(3, 2), nullable=False)
    rating_count = Column(Integer, nullable=False)
    supports_delivery = Column(Boolean, nullable=False)
    supports_pickup = Column(Boolean, nullable=False)
    hours = relationship("PharmacyHours", order_by="PharmacyHours.day_of_week")


class PharmacyLocation(Touched, Base):
    """Column geo is PostGIS's and is written in SQL (see nearby_pharmacies)."""
    __tablename__ = "pharmacy_locations"
    id = new_id()
    pharmacy_id = uuid_of("pharmacies.id", nullable=False)
    address_line = Column(Text, nullable=False)
    city = Column(Text, nullable=False)
    pincode = Column(Text, nullable=False)
    latitude = Column(Float(53), nullable=False)
    longitude = Column(Float(53), nullable=False)


class PharmacyHours(Base):
    __tablename__ = "pharmacy_hours"
    id = new_id()
    pharmacy_id = uuid_of("pharmacies.id", nullable=False)
    day_of_week = Column(SmallInteger, nullable=False)
    open_time = Column(Time)
    close_time = Column(Time)
    is_closed = Column(Boolean, nullable=False, default=False)


class PushToken(Touched, Base):
    __tablename__ = "push_tokens"
    id = new_id()
    user_id = uuid_of("users.id", nullable=False)
    token = Column(Text, nullable=False)
    platform = Column(Text, nullable=False)
    is_active = Column(Boolean, nullable=False, default=True)


class AuditLog(Base):
    __tablename__ = "audit_logs"
    id = Column(BigInteger, primary_key=True, autoincrement=True)
    actor_id = Column(UUID(as_uuid=True))
    action = Column(Text, nullable=False)
    entity = Column(Text, nullable=False)
    entity_id = Column(Text)
    detail = Column(JSONB, nullable=False, default=dict)
    created_at = moment(server_default=text("now()"))
