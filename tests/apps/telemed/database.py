"""Engine and session, from DATABASE_URL and nothing else."""
import os

from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker


def database_url():
    url = os.environ["DATABASE_URL"]
    # Heroku and its kin still hand out the scheme SQLAlchemy dropped.
    return "postgresql://" + url[len("postgres://"):] if url.startswith("postgres://") else url


engine = create_engine(
    database_url(),
    pool_size=20,
    max_overflow=40,
    pool_timeout=30,
    pool_recycle=3600,
    pool_pre_ping=True,
)
SessionLocal = sessionmaker(bind=engine, autoflush=False, expire_on_commit=False)


def get_session():
    """One session a request."""
    session = SessionLocal()
    try:
        yield session
    finally:
        session.close()
