"""Records the data of a dashboard, to be drawn after the test network is gone (tests/dashboard)."""

import json
import time

import dashboard_queries

STEP_S = 1


def record(dashboard, seconds, api, path):
    """Writes the results of all expressions over the last seconds. `api` returns the response of a data source to a request, as
    bytes: `api(is_external, path, parameters)`."""
    end = int(time.time()) - 1
    start = end - seconds
    results = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = dashboard_queries.with_defaults(target["expr"], "10s")
            is_external = target["datasource"]["uid"] == "${external}"

            def result(kind, query=query, is_external=is_external, **parameters):
                return json.loads(api(is_external, kind, {"query": query, **parameters}))["data"]["result"]

            results[target["expr"]] = {
                "instant": result("query", time=end), "range": result("query_range", start=start, end=end, step=STEP_S)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"start": start, "end": end, "results": results}))
