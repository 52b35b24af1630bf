"""python3 -m telemed --port 8000: serves the application at 127.0.0.1; DATABASE_URL says where the
data is."""
import argparse

import uvicorn


def main():
    parser = argparse.ArgumentParser(prog="telemed")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run("telemed.main:app", host=arguments.host, port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
