"""The HTTP API. One session a request; endpoints are plain functions, so FastAPI runs them on its
threads."""
from datetime import datetime, timedelta, timezone
from typing import List, Optional
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.responses import JSONResponse
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload, selectinload

from . import booking, schemas
from .database import engine, get_session
from .models import (Appointment, AuditLog, Clinic, Consultation, Doctor, DoctorClinic, Payment,
                     Pharmacy, Profile, PushToken, Slot, User)

app = FastAPI(title="telemed")


@app.exception_handler(booking.BookingError)
def booking_error(_, error):
    return JSONResponse({"detail": error.detail}, status_code=error.status)


@app.on_event("shutdown")
def close_pool():
    engine.dispose()


def found(row, what):
    if row is None:
        raise HTTPException(404, f"no such {what}")
    return row


@app.get("/healthz")
def healthz(session: Session = Depends(get_session)):
    session.execute(text("SELECT 1"))
    return {"status": "ok"}


# -- doctors -------------------------------------------------------------------------------------

def doctor_out(doctor):
    return schemas.DoctorOut(full_name=doctor.user.full_name, photo_url=doctor.user.photo_url, **{
        name: getattr(doctor, name) for name in schemas.DoctorOut.__fields__
        if name not in ("full_name", "photo_url")})


def doctor_by_id(session, doctor_id):
    return found(session.execute(
        select(Doctor).options(joinedload(Doctor.user, innerjoin=True))
        .where(Doctor.id == doctor_id)).scalar_one_or_none(), "doctor")


@app.get("/doctors", response_model=schemas.DoctorPage)
def list_doctors(specialization: Optional[str] = None, verified: Optional[bool] = True,
                 page: int = Query(1, ge=1), page_size: int = Query(20, ge=1, le=100),
                 session: Session = Depends(get_session)):
    conditions = []
    if specialization is not None:
        conditions.append(Doctor.specialization == specialization)
    if verified is not None:
        conditions.append(Doctor.is_verified == verified)
    total = session.execute(
        select(func.count()).select_from(Doctor).where(*conditions)).scalar_one()
    doctors = session.execute(
        select(Doctor).options(joinedload(Doctor.user, innerjoin=True)).where(*conditions)
        .order_by(Doctor.rating.desc(), Doctor.id)
        .limit(page_size).offset((page - 1) * page_size)).scalars().all()
    return schemas.DoctorPage(total=total, page=page, page_size=page_size,
                              items=[doctor_out(doctor) for doctor in doctors])


@app.get("/doctors/{doctor_id}", response_model=schemas.DoctorOut)
def get_doctor(doctor_id: UUID, session: Session = Depends(get_session)):
    return doctor_out(doctor_by_id(session, doctor_id))


@app.patch("/doctors/{doctor_id}", response_model=schemas.DoctorOut)
def patch_doctor(doctor_id: UUID, change: schemas.DoctorPatch,
                 session: Session = Depends(get_session)):
    doctor = doctor_by_id(session, doctor_id)
    for name, value in change.dict(exclude_unset=True).items():
        setattr(doctor, name, value)
    session.commit()
    session.refresh(doctor)
    return doctor_out(doctor)


@app.get("/doctors/{doctor_id}/clinics", response_model=List[schemas.ClinicOut])
def doctor_clinics(doctor_id: UUID, session: Session = Depends(get_session)):
    rows = session.execute(
        select(Clinic, DoctorClinic.is_primary).join(DoctorClinic).where(
            DoctorClinic.doctor_id == doctor_id, Clinic.status == "active")
        .order_by(DoctorClinic.is_primary.desc(), Clinic.name)).all()
    return [schemas.ClinicOut(id=clinic.id, name=clinic.name, city=clinic.city,
                              address_line=clinic.address_line, is_primary=is_primary)
            for clinic, is_primary in rows]


@app.get("/doctors/{doctor_id}/slots", response_model=List[schemas.SlotOut])
def open_slots(doctor_id: UUID, after: Optional[datetime] = None,
               before: Optional[datetime] = None, session: Session = Depends(get_session)):
    query = select(Slot).where(Slot.doctor_id == doctor_id, Slot.is_booked.is_(False))
    if after is not None:
        query = query.where(Slot.starts_at >= after)
    if before is not None:
        query = query.where(Slot.starts_at < before)
    return session.execute(query.order_by(Slot.starts_at).limit(100)).scalars().all()


# -- bookings ------------------------------------------------------------------------------------

def consultation_out(session, consultation_id):
    consultation, payment = found(session.execute(
        select(Consultation, Payment).outerjoin(Payment)
        .where(Consultation.id == consultation_id)).one_or_none(), "consultation")
    return schemas.ConsultationOut(
        id=consultation.id, patient_id=consultation.patient_id, doctor_id=consultation.doctor_id,
        scheduled_at=consultation.scheduled_at, status=consultation.status, fee=consultation.fee,
        payment_status=payment and payment.status,
        transaction_id=payment and payment.transaction_id)


@app.post("/bookings", response_model=schemas.ConsultationOut, status_code=201)
def create_booking(request: schemas.BookingIn, response: Response,
                   session: Session = Depends(get_session)):
    consultation_id, is_new = booking.book(request)
    if not is_new:
        response.status_code = 200
    return consultation_out(session, consultation_id)


@app.get("/consultations/{consultation_id}", response_model=schemas.ConsultationOut)
def get_consultation(consultation_id: UUID, session: Session = Depends(get_session)):
    return consultation_out(session, consultation_id)


@app.post("/consultations/{consultation_id}/cancel", response_model=schemas.ConsultationOut)
def cancel_consultation(consultation_id: UUID, session: Session = Depends(get_session)):
    booking.cancel(consultation_id)
    return consultation_out(session, consultation_id)


@app.get("/patients/{patient_id}/consultations", response_model=List[schemas.ConsultationOut])
def patient_consultations(patient_id: UUID, session: Session = Depends(get_session)):
    rows = session.execute(
        select(Consultation).options(selectinload(Consultation.payment))
        .where(Consultation.patient_id == patient_id)
        .order_by(Consultation.scheduled_at.desc(), Consultation.doctor_id).limit(50)
    ).scalars().all()
    return [schemas.ConsultationOut(
        id=c.id, patient_id=c.patient_id, doctor_id=c.doctor_id, scheduled_at=c.scheduled_at,
        status=c.status, fee=c.fee, payment_status=c.payment and c.payment.status,
        transaction_id=c.payment and c.payment.transaction_id) for c in rows]


# -- appointments --------------------------------------------------------------------------------

@app.get("/patients/{patient_id}/appointments", response_model=List[schemas.AppointmentOut])
def patient_appointments(patient_id: UUID, status: Optional[str] = None,
                         session: Session = Depends(get_session)):
    query = select(Appointment).where(Appointment.patient_id == patient_id,
                                      Appointment.deleted_at.is_(None))
    if status is not None:
        query = query.where(Appointment.status == status)
    return session.execute(
        query.order_by(Appointment.appointment_at.desc(), Appointment.created_at).limit(50)
    ).scalars().all()


@app.post("/appointments", response_model=schemas.AppointmentOut, status_code=201)
def create_appointment(request: schemas.AppointmentIn, session: Session = Depends(get_session)):
    found(session.get(User, request.patient_id), "patient")
    doctor = doctor_by_id(session, request.doctor_id)
    clinic = found(session.get(Clinic, request.clinic_id), "clinic") if request.clinic_id else None
    appointment = Appointment(
        patient_id=request.patient_id, doctor_id=doctor.id, clinic_id=clinic and clinic.id,
        doctor_name="Dr. " + doctor.user.full_name, clinic_name=clinic and clinic.name,
        appointment_at=request.appointment_at,
        appointment_end=request.appointment_at + timedelta(minutes=20), reason=request.reason)
    session.add(appointment)
    session.flush()
    session.add(AuditLog(actor_id=request.patient_id, action="book", entity="appointment",
                         entity_id=str(appointment.id)))
    session.commit()
    return appointment


@app.post("/appointments/{appointment_id}/cancel", response_model=schemas.AppointmentOut)
def cancel_appointment(appointment_id: UUID, session: Session = Depends(get_session)):
    appointment = found(session.execute(
        select(Appointment).where(Appointment.id == appointment_id,
                                  Appointment.deleted_at.is_(None)).with_for_update()
    ).scalar_one_or_none(), "appointment")
    if appointment.status == "cancelled":
        raise HTTPException(409, "appointment is cancelled")
    appointment.status = "cancelled"
    appointment.cancelled_at = datetime.now(timezone.utc)
    session.commit()
    return appointment


# -- pharmacies ----------------------------------------------------------------------------------

@app.get("/pharmacies/nearby", response_model=List[schemas.NearbyPharmacy])
def nearby_pharmacies(latitude: float = Query(..., ge=-90, le=90),
                      longitude: float = Query(..., ge=-180, le=180),
                      radius_m: int = Query(5000, ge=1, le=100000),
                      limit: int = Query(20, ge=1, le=100),
                      session: Session = Depends(get_session)):
    rows = session.execute(text("""
        SELECT p.id, p.name, l.city, l.address_line, p.rating, p.supports_delivery,
               round(ST_Distance(l.geo, here.geo))::int AS distance_m
        FROM pharmacy_locations l
        JOIN pharmacies p ON p.id = l.pharmacy_id
        CROSS JOIN (SELECT ST_SetSRID(ST_MakePoint(:longitude, :latitude), 4326)::geography AS geo)
          AS here
        WHERE p.is_active AND p.is_verified AND ST_DWithin(l.geo, here.geo, :radius)
        ORDER BY ST_Distance(l.geo, here.geo), p.id LIMIT :limit"""),
        {"longitude": longitude, "latitude": latitude, "radius": radius_m, "limit": limit})
    return [schemas.NearbyPharmacy(**row) for row in rows.mappings()]


@app.get("/pharmacies/{pharmacy_id}", response_model=schemas.PharmacyOut)
def get_pharmacy(pharmacy_id: UUID, session: Session = Depends(get_session)):
    return found(session.execute(
        select(Pharmacy).options(selectinload(Pharmacy.hours)).where(Pharmacy.id == pharmacy_id)
    ).scalar_one_or_none(), "pharmacy")


@app.post("/pharmacies/{pharmacy_id}/verify", response_model=schemas.PharmacyOut)
def verify_pharmacy(pharmacy_id: UUID, verified: bool = True,
                    session: Session = Depends(get_session)):
    pharmacy = found(session.get(Pharmacy, pharmacy_id), "pharmacy")
    pharmacy.is_verified = verified
    session.add(AuditLog(action="verify", entity="pharmacy", entity_id=str(pharmacy_id),
                         detail={"verified": verified}))
    session.commit()
    return get_pharmacy(pharmacy_id, session)


# -- users ---------------------------------------------------------------------------------------

def profile_out(user):
    profile = found(user.profile, "profile")
    return schemas.ProfileOut(
        user_id=user.id, full_name=user.full_name, email=user.email, phone=user.phone,
        date_of_birth=profile.date_of_birth, gender=profile.gender,
        blood_group=profile.blood_group, address=profile.address,
        medical_history=profile.medical_history, last_login_at=user.last_login_at)


def user_with_profile(session, user_id):
    return found(session.execute(
        select(User).options(joinedload(User.profile)).where(User.id == user_id)
    ).scalar_one_or_none(), "user")


@app.get("/users/{user_id}/profile", response_model=schemas.ProfileOut)
def get_profile(user_id: UUID, session: Session = Depends(get_session)):
    return profile_out(user_with_profile(session, user_id))


@app.patch("/users/{user_id}/profile", response_model=schemas.ProfileOut)
def patch_profile(user_id: UUID, change: schemas.ProfilePatch,
                  session: Session = Depends(get_session)):
    user = user_with_profile(session, user_id)
    profile = found(user.profile, "profile")
    for name, value in change.dict(exclude_unset=True).items():
        setattr(user if name in ("full_name", "phone") else profile, name, value)
    session.add(AuditLog(actor_id=user_id, action="update", entity="profile",
                         entity_id=str(profile.id)))
    session.commit()
    return profile_out(user)


@app.post("/users/{user_id}/login", status_code=204)
def login(user_id: UUID, session: Session = Depends(get_session)):
    changed = session.query(User).filter(User.id == user_id, User.is_active).update(
        {User.last_login_at: func.now()}, synchronize_session=False)
    if not changed:
        raise HTTPException(404, "no such user")
    session.add(AuditLog(actor_id=user_id, action="login", entity="user", entity_id=str(user_id)))
    session.commit()


@app.put("/users/{user_id}/push-token", status_code=204)
def put_push_token(user_id: UUID, request: schemas.PushTokenIn,
                   session: Session = Depends(get_session)):
    found(session.get(User, user_id), "user")
    row = insert(PushToken).values(user_id=user_id, token=request.token, platform=request.platform)
    session.execute(row.on_conflict_do_update(
        index_elements=[PushToken.token],
        set_={"user_id": row.excluded.user_id, "platform": row.excluded.platform,
              "is_active": True}))
    session.commit()


@app.get("/users/{user_id}/push-tokens")
def push_tokens(user_id: UUID, session: Session = Depends(get_session)):
    rows = session.execute(
        select(PushToken.token, PushToken.platform)
        .where(PushToken.user_id == user_id, PushToken.is_active)
        .order_by(PushToken.token)).all()
    return [{"token": token, "platform": platform} for token, platform in rows]


# -- admin ---------------------------------------------------------------------------------------

@app.get("/admin/counts")
def admin_counts(session: Session = Depends(get_session)):
    def count(model, *conditions):
        return session.execute(
            select(func.count()).select_from(model).where(*conditions)).scalar_one()

    by_role = session.execute(
        select(User.role, func.count()).where(User.is_active).group_by(User.role)).all()
    return {
        "users": {role: number for role, number in sorted(by_role)},
        "profiles": count(Profile),
        "doctors_verified": count(Doctor, Doctor.is_verified),
        "pharmacies_verified": count(Pharmacy, Pharmacy.is_verified),
        "consultations_scheduled": count(Consultation, Consultation.status == "scheduled"),
        "appointments_open": count(Appointment, Appointment.status.in_(("pending", "confirmed")),
                                   Appointment.deleted_at.is_(None)),
    }


@app.get("/admin/audit/{entity}/{entity_id}")
def audit_trail(entity: str, entity_id: str, session: Session = Depends(get_session)):
    rows = session.execute(
        select(AuditLog).where(AuditLog.entity == entity, AuditLog.entity_id == entity_id)
        .order_by(AuditLog.id.desc()).limit(100)).scalars().all()
    return [{"action": row.action, "actor_id": row.actor_id, "detail": row.detail,
             "created_at": row.created_at} for row in rows]
