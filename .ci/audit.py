"""Known vulnerabilities of the locked packages, by pip-audit: `make audit`, or `make audit STRICT=1` before a release.

The advisories are on a server. Where it cannot be asked, or knows none of the packages (a mirror without them answers so,
and pip-audit then ends as if all were well), the audit is skipped and the reason printed; with `--strict` that is a failure.

Exit codes: 0 nothing known, or skipped; 1 vulnerabilities; 2 skipped though `--strict` was given.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
SECONDS = 60


def main() -> int:
    """Ask, judge, print."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "audit.json"
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes", "--disable-pip"]
        command += ["--format", "json", "--output", str(output), "--progress-spinner", "off"]
        try:
            noise = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False).stderr
        except subprocess.TimeoutExpired:
            noise = f"no answer in {SECONDS} s"
        code, text = judge(output.read_text() if output.is_file() else "", noise)
    print(text)
    if code is None:
        return 2 if "--strict" in sys.argv[1:] else 0
    return code


def judge(report: str, noise: str) -> tuple[int | None, str]:
    """What a report of pip-audit means.

    Args:
        report: its JSON; empty if it wrote none.
        noise: what it printed besides.

    Returns:
        0 for nothing known, 1 for vulnerabilities, None where nothing was audited; and what to print.
    """
    if not report:
        lines = [line.strip() for line in noise.splitlines() if line.strip()]
        return None, f"audit skipped, nothing verified: {lines[-1][:300] if lines else 'pip-audit said nothing'}"
    every = json.loads(report)["dependencies"]
    audited = [each for each in every if "skip_reason" not in each]
    if not audited:
        return (
            None,
            "audit skipped, nothing verified: the advisory service that answers here knows none of the packages",
        )
    lines = [
        f"{each['name']} {each['version']}: {vulnerability['id']}, "
        + (
            f"mended in {', '.join(vulnerability['fix_versions'])}"
            if vulnerability["fix_versions"]
            else "not mended yet"
        )
        for each in audited
        for vulnerability in each["vulns"]
    ]
    unknown = [each["name"] for each in every if "skip_reason" in each]
    said = f"{len(audited)} packages audited, {len(lines)} vulnerabilities known"
    if unknown:
        said += f"; not known there, so not audited: {', '.join(unknown)}"
    return int(bool(lines)), "\n".join([*lines, said])


if __name__ == "__main__":
    sys.exit(main())
