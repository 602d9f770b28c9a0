"""Prefect's server for one chain: `python -m flows.prefect_server PORT`, on this machine only."""

import sys

from stages.imports import heavy_imports


def main(port: int) -> None:
    """Serve until SIGTERM. `create_app` imports and builds as much as the imports before it."""
    with heavy_imports():
        import uvicorn
        from prefect.server.api.server import create_app

        app = create_app()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", lifespan="on")


if __name__ == "__main__":
    main(int(sys.argv[1]))
