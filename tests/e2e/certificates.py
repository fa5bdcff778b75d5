"""Certificates for tests, made by openssl: an authority, and what it issues."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path

    @property
    def flags(self):
        return "--tls-cert", self.certificate, "--tls-key", self.key


class Authority:
    """Signs certificates below a folder; `authority.pem` is what clients trust."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.certificate = self.folder / "authority.pem"
        self.key = self.folder / "authority.key"
        self._serial = 0
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", self.key, "-out", self.certificate, "-days", 30, "-subj", "/CN=authority"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"),
        )

    def issue(self, name="server", *, names="DNS:localhost,IP:127.0.0.1", days=30):
        """A certificate and its key, with the authority's behind it. Negative days: one that is over."""
        self._serial += 1
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", pair.key, "-out", request, "-subj", f"/CN={name}"),
        )
        leaf = self.folder / f"{name}.leaf"
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key),
            *("-set_serial", self._serial, "-days", days, "-extfile", extensions, "-out", leaf),
        )
        pair.certificate.write_bytes(leaf.read_bytes() + self.certificate.read_bytes())
        return pair

    def context(self):
        """What a client needs that trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))
