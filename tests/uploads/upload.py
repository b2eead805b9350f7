"""Uploads 20 MB without Expect with the named client; prints the status and the length of the content."""

import sys

client, url = sys.argv[1:]
BODY = b"x" * 20_000_000


def with_http_client():
    import http.client
    import urllib.parse

    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=20)
    connection.request("PUT", "/healthz", body=BODY)
    response = connection.getresponse()
    return response.status, response.read()


def with_requests():
    import requests

    response = requests.put(url + "/healthz", data=BODY, timeout=20)
    return response.status_code, response.content


def with_aiohttp():
    import asyncio

    import aiohttp

    async def upload():
        async with aiohttp.ClientSession() as session:
            async with session.put(url + "/healthz", data=BODY) as response:
                return response.status, await response.read()

    return asyncio.run(upload())


status, content = {"http.client": with_http_client, "requests": with_requests, "aiohttp": with_aiohttp}[client]()
print(status, len(content))
