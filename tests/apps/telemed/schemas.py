"""What goes in and out over HTTP."""
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Dict, List, Optional
from uuid import UUID

from pydantic import BaseModel, Field


class FromOrm(BaseModel):
    class Config:
        orm_mode = True


class DoctorOut(FromOrm):
    id: UUID
    full_name: str
    photo_url: Optional[str]
    license_number: str
    specialization: str
    experience_years: int
    consultation_fee: Decimal
    rating: Decimal
    is_verified: bool
    bio: Optional[str]
    updated_at: datetime


class DoctorPage(BaseModel):
    total: int
    page: int
    page_size: int
    items: List[DoctorOut]


class DoctorPatch(BaseModel):
    consultation_fee: Optional[Decimal] = Field(None, ge=0, le=100000)
    bio: Optional[str] = Field(None, max_length=4000)


class ClinicOut(FromOrm):
    id: UUID
    name: str
    city: str
    address_line: Optional[str]
    is_primary: bool


class SlotOut(FromOrm):
    id: UUID
    starts_at: datetime
    ends_at: datetime
    version: int


class BookingIn(BaseModel):
    patient_id: UUID
    slot_id: UUID
    transaction_id: str = Field(..., min_length=1, max_length=100)


class ConsultationOut(FromOrm):
    id: UUID
    patient_id: UUID
    doctor_id: UUID
    scheduled_at: datetime
    status: str
    fee: Decimal
    payment_status: Optional[str]
    transaction_id: Optional[str]


class AppointmentOut(FromOrm):
    id: UUID
    doctor_id: UUID
    doctor_name: str
    clinic_name: Optional[str]
    appointment_at: datetime
    appointment_end: datetime
    reason: Optional[str]
    status: str
    cancelled_at: Optional[datetime]


class AppointmentIn(BaseModel):
    patient_id: UUID
    doctor_id: UUID
    clinic_id: Optional[UUID]
    appointment_at: datetime
    reason: Optional[str] = Field(None, max_length=500)


class HoursOut(FromOrm):
    day_of_week: int
    open_time: Optional[time]
    close_time: Optional[time]
    is_closed: bool


class PharmacyOut(FromOrm):
    id: UUID
    name: str
    phone: Optional[str]
    is_verified: bool
    rating: Decimal
    rating_count: int
    supports_delivery: bool
    supports_pickup: bool
    hours: List[HoursOut]


class NearbyPharmacy(BaseModel):
    id: UUID
    name: str
    city: str
    address_line: str
    distance_m: int
    rating: Decimal
    supports_delivery: bool


class ProfileOut(BaseModel):
    user_id: UUID
    full_name: str
    email: str
    phone: Optional[str]
    date_of_birth: Optional[date]
    gender: Optional[str]
    blood_group: Optional[str]
    address: Dict[str, Any]
    medical_history: Dict[str, Any]
    last_login_at: Optional[datetime]


class ProfilePatch(BaseModel):
    full_name: Optional[str] = Field(None, min_length=1, max_length=200)
    phone: Optional[str] = Field(None, max_length=40)
    gender: Optional[str]
    blood_group: Optional[str]
    address: Optional[Dict[str, Any]]


class PushTokenIn(BaseModel):
    token: str = Field(..., min_length=1, max_length=300)
    platform: str = Field(..., regex="^(android|ios|web)$")
