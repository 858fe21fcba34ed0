"""`maskmend doctor`: what is installed here, what of it works, and what to do about what does not.

The process that asks loads nothing of what it looks at: each thing is tried in a process of its own, so that one that
crashes or hangs is a line of the report. `examine` is the whole of it.
"""

from __future__ import annotations

from maskmend.clients.doctor.examination import examine
from maskmend.clients.doctor.findings import Check, Report

__all__ = ["Check", "Report", "examine"]
