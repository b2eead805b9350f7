"""A temporary certificate authority and its certificates, created with openssl."""

import pathlib
import subprocess

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """Keeps its files in a directory; clients must trust `certificate`."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.certificate, self.key = self.directory / "ca.pem", self.directory / "ca.key"
        openssl("req", "-x509", *KEY, "-keyout", self.key, "-out", self.certificate, "-days", "2",
                "-subj", "/CN=Test CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def issue(self, *names, days=2, usage="serverAuth"):
        """Issues a new certificate and returns key and certificate concatenated, as haproxy expects. days=-1 makes an
        expired one."""
        key, request, certificate = (self.directory / name for name in ("one.key", "one.csr", "one.pem"))
        openssl("req", "-new", *KEY, "-keyout", key, "-out", request, "-subj", f"/CN={names[0]}",
                "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}",
                "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-days", str(days),
                "-copy_extensions", "copyall", "-out", certificate)
        return key.read_text() + certificate.read_text()


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise OSError(f"openssl {arguments[0]}: {done.stderr}")
