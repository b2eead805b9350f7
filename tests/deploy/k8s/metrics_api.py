"""A minimal resource metrics API instead of metrics-server, based on the kubelet's statistics.

Implements what the autoscaler needs: pod metrics of a namespace by label selector. Arguments:
address, port, certificate, key; and for the API server its address, CA, certificate and key.
"""

import datetime
import http.server
import json
import ssl
import sys
import urllib.parse
import urllib.request

ADDRESS, PORT, CERTIFICATE, KEY, API, AUTHORITY, CLIENT_CERTIFICATE, CLIENT_KEY = sys.argv[1:]
GROUP = "metrics.k8s.io/v1beta1"
RESOURCES = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": GROUP,
    "resources": [
        {
            "name": "pods",
            "singularName": "",
            "namespaced": True,
            "kind": "PodMetrics",
            "verbs": ["get", "list"],
        }
    ],
}

client = ssl.create_default_context(cafile=AUTHORITY)
client.load_cert_chain(CLIENT_CERTIFICATE, CLIENT_KEY)


def fetch(url, context=None):
    with urllib.request.urlopen(url, timeout=5, context=context) as response:
        return json.load(response)


def pods(namespace, query):
    """Yields the metrics of the selected pods of a namespace."""
    query = urllib.parse.urlencode({"labelSelector": query.get("labelSelector", [""])[0]})
    selected = fetch(f"{API}/api/v1/namespaces/{namespace}/pods?{query}", client)["items"]
    wanted = {pod["metadata"]["name"]: pod["metadata"] for pod in selected}
    for pod in fetch("http://127.0.0.1:10255/stats/summary")["pods"]:
        name = pod["podRef"]["name"]
        if pod["podRef"]["namespace"] != namespace or name not in wanted:
            continue
        containers = [
            container
            for container in pod.get("containers", [])
            if "usageNanoCores" in container.get("cpu", {})
        ]
        if containers:
            yield {
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": wanted[name].get("labels", {}),
                },
                "timestamp": containers[0]["cpu"]["time"],
                "window": "10s",
                "containers": [
                    {
                        "name": container["name"],
                        "usage": {
                            "cpu": f"{container['cpu']['usageNanoCores']}n",
                            "memory": str(container["memory"]["workingSetBytes"]),
                        },
                    }
                    for container in containers
                ],
            }


class Handler(http.server.BaseHTTPRequestHandler):
    """Handles requests forwarded by the API server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if parts == ["apis", *GROUP.split("/")]:
            return self.respond(RESOURCES)
        if parts[:3] == ["apis", *GROUP.split("/")] and parts[3] == "namespaces":
            items = list(pods(parts[4], urllib.parse.parse_qs(url.query)))
            usage = {pod["metadata"]["name"]: pod["containers"][0]["usage"]["cpu"] for pod in items}
            print(datetime.datetime.now().isoformat(timespec="seconds"), usage, flush=True)
            about = {"kind": "PodMetricsList", "apiVersion": GROUP, "metadata": {}}
            return self.respond({**about, "items": items})
        return self.respond({}, 404)

    def respond(self, content, status=200):
        content = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((ADDRESS, int(PORT)), Handler)
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(CERTIFICATE, KEY)
server.socket = server_context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
