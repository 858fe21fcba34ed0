"""What nuclio calls; the function itself is in the package."""

from maskmend.clients.annotation.cvat import handler, init_context

__all__ = ["handler", "init_context"]
