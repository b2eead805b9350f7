"""Static checks of a rules.yml: promtool lint, the cases of rules_test.yml, and runbook sections."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def check(directory):
    files = [path.name for path in sorted(directory.glob("*.yml")) if path.name in ("rules.yml", "slo.yml")]
    for words in (["check", "rules", "--lint=all", *files], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(["promtool", *words], cwd=directory, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise AssertionError(f"{directory.name}: promtool {words[0]}: {done.stdout}{done.stderr}")
    for file in files:
        for alert in re.findall(r"alert: (\w+)", (directory / file).read_text()):
            section(alert)


def section(alert):
    """Fails unless the runbooks have a section on the alert."""
    if f"\n## {alert}\n" not in (ROOT / "docs/runbooks.md").read_text():
        raise AssertionError(f"docs/runbooks.md has no section on {alert}")


def missing_metrics(directory, prefix, scraped):
    """Returns the metrics with a name prefix that rules.yml uses and a scrape lacks."""
    named = set(re.findall(rf"\b{prefix}_\w+", (directory / "rules.yml").read_text()))
    assert named, f"{directory.name}: no rule about {prefix}_…"
    return named - set(re.findall(r"^\w+", scraped, re.MULTILINE))
