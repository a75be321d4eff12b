"""Known holes in what constraints.txt names, by pip-audit.

Exit status 1 where there are some. Where no index of advisories can be reached it says so, and the status is 0: a
machine without a network can be no reason against a change.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVICES = ("pypi", "osv")
# Its advisories are known for years. An index that has none of it has none of anything.
PROBE = "jinja2==2.4.1"


def audit(requirements: Path, service: str) -> tuple[list[dict], str]:
    """(its dependencies as pip-audit found them, what it said)."""
    command = [
        sys.executable, "-m", "pip_audit", "-r", str(requirements), "--no-deps", "--disable-pip", "-f", "json",
        "-s", service, "--progress-spinner", "off", "--timeout", "10",
    ]  # fmt: skip
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return [], "no answer in 300 s"
    try:
        return json.loads(ran.stdout)["dependencies"], ran.stderr
    except (ValueError, KeyError):
        return [], ran.stderr


def reason(dependencies: list[dict], said: str) -> str:
    """Why an index gave no advisories, in one line."""
    skipped = next((one["skip_reason"] for one in dependencies if "skip_reason" in one), None)
    return skipped or (said.strip().splitlines() or ["it knows no advisories"])[-1]


def main() -> int:
    """Audits with the first index that can be reached."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "requirements.txt"
        probe.write_text(PROBE + "\n")
        for service in SERVICES:
            dependencies, said = audit(probe, service)
            if any(one.get("vulns") for one in dependencies):
                break
            print(f"audit: {service} cannot be used: {reason(dependencies, said)[:200]}")
        else:
            print("audit: skipped, as no index of advisories can be reached")
            return 0
    dependencies, said = audit(ROOT / "constraints.txt", service)
    known = [one for one in dependencies if "skip_reason" not in one]
    if not known:
        print(f"audit: failed: {reason(dependencies, said)}")
        return 1
    found = [(one["name"], one["version"], hole) for one in known for hole in one["vulns"]]
    for name, version, hole in found:
        fixed = ", ".join(hole["fix_versions"]) or "nowhere yet"
        print(f"audit: {name} {version}: {hole['id']}, fixed in {fixed}")
    unknown = len(dependencies) - len(known)
    print(f"audit: {len(known)} packages by {service}, {len(found)} known holes; {unknown} that it does not know")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
