"""Makes vectors.json and dumpdata.json with Django itself.

Needs django, argon2-cffi, bcrypt<5 (later ones refuse more than 72 bytes) and
psycopg. Secrets and salts are made up; nothing here opens anything.
"""

import json
import os
import sys
from datetime import datetime, timedelta, timezone
from importlib.metadata import version

import django
from django.conf import settings

settings.configure(
    USE_TZ=True,
    PASSWORD_HASHERS=[
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
        "django.contrib.auth.hashers.Argon2PasswordHasher",
        "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",
        "django.contrib.auth.hashers.BCryptPasswordHasher",
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ],
)
django.setup()

import argon2
from django.contrib.auth import hashers
from django.contrib.postgres.fields import ArrayField
from django.core import serializers
from django.db import models

HERE = os.path.dirname(os.path.abspath(__file__))
MADE_BY = "Django %s, argon2-cffi %s, bcrypt %s, Python %s" % (
    django.get_version(),
    version("argon2-cffi"),
    version("bcrypt"),
    sys.version.split()[0],
)

SECRET = "kT3nW8vQ1xZ5bR7mD2fH9jL4pS6yC0aE" * 4  # 128 letters and digits, as Meet makes them
PASSWORDS = {
    "as Meet makes them": SECRET,
    "short": "s3cret",
    "not ASCII": "clé-секрет-鍵-🔑",
    "a dollar, a quote and a space": 'a$b$c"d e',
    "one letter": "x",
    "72 bytes": SECRET[:72],
    "73 bytes": SECRET[:73],
    "a block of SHA-256": SECRET[:64],
    "longer than a block": SECRET[:65],
}


class FastArgon2(hashers.Argon2PasswordHasher):
    time_cost, memory_cost, parallelism = 3, 512, 4


class FastBCryptSHA256(hashers.BCryptSHA256PasswordHasher):
    rounds = 4


class FastBCrypt(hashers.BCryptPasswordHasher):
    rounds = 4


def vectors():
    out = []

    def add(name, algorithm, secret, encoded):
        assert argon2i(encoded) or hashers.check_password(secret, encoded)
        out.append({"name": name, "algorithm": algorithm, "secret": secret, "encoded": encoded})

    def argon2i(encoded):
        return encoded.startswith("argon2$argon2i$")

    # What each hasher does unasked.
    for algorithm in ("pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt_sha256", "bcrypt"):
        add("default", algorithm, SECRET, hashers.make_password(SECRET, hasher=algorithm))
    # Every secret with every algorithm, at costs a test can pay.
    for name, secret in PASSWORDS.items():
        salt = hashers.PBKDF2PasswordHasher().salt()
        for hasher in (hashers.PBKDF2PasswordHasher(), hashers.PBKDF2SHA1PasswordHasher()):
            add(name, hasher.algorithm, secret, hasher.encode(secret, salt, 1000))
        for hasher in (FastArgon2(), FastBCryptSHA256(), FastBCrypt()):
            add(name, hasher.algorithm, secret, hasher.encode(secret, hasher.salt()))
    # What older Djangos and other settings made.
    add("one iteration", "pbkdf2_sha256", "s3cret", hashers.PBKDF2PasswordHasher().encode("s3cret", "seasalt", 1))
    add("salt of one byte", "pbkdf2_sha256", "s3cret", hashers.PBKDF2PasswordHasher().encode("s3cret", "s", 7))
    for variety, name in ((argon2.Type.I, "argon2i"), (argon2.Type.ID, "argon2id")):
        raw = argon2.low_level.hash_secret(
            b"s3cret", b"somesalt", time_cost=1, memory_cost=64, parallelism=1, hash_len=16, type=variety
        )
        assert argon2.PasswordHasher().verify(raw, "s3cret")
        add(name + " with a hash of 16 bytes", "argon2", "s3cret", "argon2" + raw.decode())
    for minor in ("2a", "2y"):
        raw = FastBCrypt().encode("s3cret", FastBCrypt().salt()).replace("$2b$", "$%s$" % minor)
        add("prefix " + minor, "bcrypt", "s3cret", raw)
    return out


class Application(models.Model):
    id = models.UUIDField(primary_key=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    name = models.CharField(max_length=255)
    is_active = models.BooleanField(default=True)
    client_id = models.CharField(max_length=100, unique=True)
    client_secret = models.CharField(max_length=255)
    scopes = ArrayField(models.CharField(max_length=50), default=list)

    class Meta:
        app_label = "core"


class ApplicationDomain(models.Model):
    id = models.UUIDField(primary_key=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    domain = models.CharField(max_length=253)
    application = models.ForeignKey(Application, on_delete=models.CASCADE)

    class Meta:
        app_label = "core"


def dump():
    """Three applications as dumpdata writes them, through Django's own serializer."""
    t0 = datetime(2026, 3, 11, 14, 39, 0, 123456, tzinfo=timezone.utc)
    objects = []
    for i, (name, scopes, domains, active) in enumerate(
        [
            ("Platform of the Académie", ["rooms:create", "rooms:list", "rooms:retrieve"], ["academie.example", "school.example"], True),
            ("Calendar", ["rooms:create"], [], True),
            ("Retired", [], ["old.example"], False),
        ]
    ):
        app = Application(
            id="00000000-0000-4000-8000-00000000000%d" % i,
            created_at=t0 + timedelta(days=i),
            updated_at=t0.replace(microsecond=0) + timedelta(days=i, hours=1),
            name=name,
            is_active=active,
            client_id=("client%d" % i).ljust(40, "x"),
            client_secret=hashers.PBKDF2PasswordHasher().encode("secret-%d" % i, "salt%d" % i, 1000),
            scopes=scopes,
        )
        objects.append(app)
        for j, d in enumerate(domains):
            objects.append(
                ApplicationDomain(
                    id="00000000-0000-4000-9000-0000000000%d%d" % (i, j),
                    created_at=t0, updated_at=t0, domain=d, application=app,
                )
            )
    objects.sort(key=lambda o: isinstance(o, ApplicationDomain))
    return serializers.serialize("json", objects, indent=2)


with open(os.path.join(HERE, "vectors.json"), "w", encoding="utf-8") as f:
    json.dump({"comment": "made by make_vectors.py", "made_by": MADE_BY, "vectors": vectors()}, f, ensure_ascii=False, indent=1)
    f.write("\n")
with open(os.path.join(HERE, "dumpdata.json"), "w", encoding="utf-8") as f:
    f.write(dump() + "\n")
