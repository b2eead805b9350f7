"""An authority of a test's own, and certificates that it signs, with openssl. Nothing of it is kept."""

import pathlib
import subprocess

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """Lives in a folder, where `certificate` is what clients are to trust."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.certificate, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        openssl("req", "-x509", *KEY, "-keyout", self.key, "-out", self.certificate, "-days", "2",
                "-subj", "/CN=An authority of a test", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def issue(self, *names, days=2, usage="serverAuth"):
        """Key and certificate for these names in one text, as haproxy wants it. Each call makes another; one for
        days=-1 has expired."""
        key, request, certificate = (self.folder / name for name in ("one.key", "one.csr", "one.pem"))
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
