"""Run the chat service of ``service.py`` with uvicorn.

    python examples/fastapi_chat/serve.py --port 8000 --workers 2

Without INFERENCE_API_KEY it works offline, with one embedded runtime for all workers. With a key it uses inference.sh;
CHAT_CORE_APP then names the app of the language model.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
from pathlib import Path

import uvicorn
from offline import OfflineModel

from inferencesh.local import BackgroundRuntime

GRACE = 5  # seconds that open streams get to end when the service is stopped


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run a chat service with a web page.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    os.environ.setdefault("CHAT_SECRET", secrets.token_hex(32))  # one for all workers
    if os.environ.get("INFERENCE_API_KEY"):
        serve(options)
        return
    print("INFERENCE_API_KEY is not set: an offline stand-in answers, not a language model.", flush=True)
    runtime = BackgroundRuntime(pace=0.04, model=OfflineModel())
    address = runtime.start()
    os.environ.update(INFERENCE_BASE_URL=address.base_url, INFERENCE_API_KEY=address.api_key)
    try:
        serve(options)
    finally:
        runtime.stop()


def serve(options: argparse.Namespace) -> None:
    """Run the workers until Ctrl-C."""
    try:
        listening = socket.create_server((options.host, options.port), backlog=1024)
    except OSError as error:
        sys.exit(f"Port {options.port} of {options.host} cannot be used ({error.strerror}); choose another --port.")
    with listening:  # so that browsers wait for the workers to start instead of being refused
        print(
            f"Open http://{options.host}:{listening.getsockname()[1]} in a browser. Press Ctrl-C to stop.", flush=True
        )
        uvicorn.run(
            "service:app",
            app_dir=str(Path(__file__).parent),
            fd=listening.fileno(),
            workers=options.workers,
            timeout_graceful_shutdown=GRACE,
            log_level="warning",
        )


if __name__ == "__main__":
    main()
