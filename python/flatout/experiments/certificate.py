"""The certificate of a server under test, by openssl: of this experiment alone, and signed by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

from flatout.experiments.server_process import ServerFailed, find

_DAYS = "30"
_NAME = "flatout.test"
_KEYS = {
    "ec": ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    "rsa:2048": ("rsa:2048",),
    "rsa:4096": ("rsa:4096",),
}


def certificate(folder: Path, kind: str, address: str) -> tuple[str, str]:
    """The PEM files of certificate and key, made where they are not there. Errors: ServerFailed.

    `kind`: of the key; `address`: that of the server, which the certificate is for.
    """
    stem = kind.replace(":", "-")
    made, key = folder / f"certificate-{stem}.pem", folder / f"key-{stem}.pem"
    if not (made.exists() and key.exists()):
        command = [
            *(find("openssl"), "req", "-x509", "-newkey", *_KEYS[kind], "-nodes", "-days", _DAYS),
            *("-subj", f"/CN={_NAME}", "-addext", f"subjectAltName=IP:{address}"),
            *("-keyout", str(key), "-out", str(made)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise ServerFailed(f"openssl made no certificate: {last}")
    return str(made), str(key)
