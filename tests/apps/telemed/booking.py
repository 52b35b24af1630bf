"""Booking and cancelling: SERIALIZABLE, the slot's row locked, retried when PostgreSQL says that
two of them met."""
import random
import time

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError

from .database import engine, SessionLocal
from .models import AuditLog, Consultation, Doctor, Payment, Slot, User

RETRIED = {"40001", "40P01"}
ATTEMPTS = 6


class BookingError(Exception):
    """`status`: the HTTP status to answer with."""

    def __init__(self, status, detail):
        super().__init__(detail)
        self.status = status
        self.detail = detail


def serializable(work):
    """Runs work(session) in a SERIALIZABLE transaction, again after a serialization failure with
    exponential back-off."""
    for attempt in range(ATTEMPTS):
        session = SessionLocal(bind=engine.execution_options(isolation_level="SERIALIZABLE"))
        try:
            result = work(session)
            session.commit()
            return result
        except DBAPIError as error:
            session.rollback()
            if getattr(error.orig, "pgcode", None) not in RETRIED or attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.5, 1) * 0.01 * 2 ** attempt)
        finally:
            session.close()
    raise AssertionError("unreachable")


def paid_before(session, transaction_id):
    return session.execute(
        select(Consultation).join(Payment).where(Payment.transaction_id == transaction_id)
    ).scalar_one_or_none()


def book(request):
    """(consultation id, whether it is new). The same transaction_id gives the same consultation."""
    def work(session):
        known = paid_before(session, request.transaction_id)
        if known is not None:
            return known.id, False
        slot = session.execute(
            select(Slot).where(Slot.id == request.slot_id).with_for_update()).scalar_one_or_none()
        if slot is None:
            raise BookingError(404, "no such slot")
        if slot.is_booked:
            raise BookingError(409, "slot is taken")
        if session.get(User, request.patient_id) is None:
            raise BookingError(404, "no such patient")
        doctor = session.get(Doctor, slot.doctor_id)
        slot.is_booked = True
        slot.version += 1
        consultation = Consultation(
            patient_id=request.patient_id, doctor_id=doctor.id, scheduled_at=slot.starts_at,
            status="scheduled", fee=doctor.consultation_fee)
        session.add(consultation)
        session.flush()
        session.add(Payment(consultation_id=consultation.id, transaction_id=request.transaction_id,
                            amount=doctor.consultation_fee, status="paid"))
        session.add(AuditLog(actor_id=request.patient_id, action="book", entity="consultation",
                             entity_id=str(consultation.id), detail={"slot": str(slot.id)}))
        session.flush()
        return consultation.id, True

    try:
        return serializable(work)
    except IntegrityError:
        # Somebody else was faster with the same transaction_id, or at the same doctor's time.
        with SessionLocal() as session:
            known = paid_before(session, request.transaction_id)
        if known is None:
            raise BookingError(409, "slot is taken") from None
        return known.id, False


def cancel(consultation_id):
    """Frees the slot and refunds; cancelling twice is an error."""
    def work(session):
        consultation = session.execute(
            select(Consultation).where(Consultation.id == consultation_id).with_for_update()
        ).scalar_one_or_none()
        if consultation is None:
            raise BookingError(404, "no such consultation")
        if consultation.status != "scheduled":
            raise BookingError(409, f"consultation is {consultation.status}")
        consultation.status = "cancelled"
        payment = session.execute(
            select(Payment).where(Payment.consultation_id == consultation_id)).scalar_one_or_none()
        if payment is not None:
            payment.status = "refunded"
        slot = session.execute(
            select(Slot).where(Slot.doctor_id == consultation.doctor_id,
                               Slot.starts_at == consultation.scheduled_at).with_for_update()
        ).scalar_one_or_none()
        if slot is not None:
            slot.is_booked = False
            slot.version += 1
        session.add(AuditLog(actor_id=consultation.patient_id, action="cancel",
                             entity="consultation", entity_id=str(consultation_id)))
        session.flush()

    serializable(work)
