// Uploads 20 MB without Expect with the named client; prints the status and the length of the content.
import http from "node:http";

const [client, url] = process.argv.slice(2);
const body = Buffer.alloc(20_000_000, "x");

if (client === "fetch") {
  const response = await fetch(`${url}/healthz`, { method: "PUT", body });
  console.log(response.status, (await response.text()).length);
} else {
  const request = http.request(`${url}/healthz`, { method: "PUT", headers: { "Content-Length": body.length } });
  request.on("response", (response) => {
    let length = 0;
    response.on("data", (data) => (length += data.length));
    response.on("end", () => console.log(response.statusCode, length));
  });
  request.end(body);
}
