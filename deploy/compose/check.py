"""check.py COMPOSE_FILE: what must hold in it, without a container engine. Prints what does not."""

import os
import sys

import yaml

SERVICE_KEYS = set(
    "build cap_drop command depends_on environment healthcheck image networks ports profiles read_only restart secrets "
    "security_opt stop_grace_period user volumes".split()
)
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
TOP_KEYS = {"name", "services", "secrets", "volumes", "networks"}
wrong = []


def must(holds, what):
    if not holds:
        wrong.append(what)


def known(found, allowed, where):
    must(not set(found) - allowed, f"{where}: unknown keys {sorted(set(found) - allowed)}")


def service(name, it, whole, folder):
    known(it, SERVICE_KEYS, name)
    known(it.get("healthcheck", {}), HEALTH_KEYS, f"{name}.healthcheck")
    must("test" in it.get("healthcheck", {}), f"{name}: no healthcheck")
    must(it.get("read_only") is True, f"{name}: the root is writable")
    must(it.get("cap_drop") == ["ALL"], f"{name}: keeps capabilities")
    must("no-new-privileges:true" in it.get("security_opt", []), f"{name}: may gain privileges")
    must(str(it.get("user", "root")).split(":")[0] not in ("root", "0"), f"{name}: runs as root")
    must(":latest" not in it["image"], f"{name}: an image without a version")
    for kind in ("secrets", "networks"):
        for used in it.get(kind, []):
            must(used in whole[kind], f"{name}: {kind[:-1]} {used} is not declared")
    for other, condition in it.get("depends_on", {}).items():
        must(other in whole["services"], f"{name}: depends on {other}, which is not there")
        must(condition == {"condition": "service_healthy"}, f"{name}: does not wait until {other} is healthy")
    for volume in it.get("volumes", []):
        source = volume.split(":")[0]
        there = os.path.exists(os.path.join(folder, source)) if source.startswith(".") else source in whole["volumes"]
        must(there, f"{name}: volume {source} is not there")


def main(path):
    folder = os.path.dirname(path)
    whole = yaml.safe_load(open(path))
    known(whole, TOP_KEYS, path)
    for name, it in whole["services"].items():
        service(name, it, whole, folder)
    gateway, redis = whole["services"]["gatepost"], whole["services"]["redis"]
    must(gateway["healthcheck"]["test"] == ["CMD", "/usr/bin/gatepost", "healthcheck"], "gatepost: healthcheck")
    must(gateway["stop_grace_period"] == "40s", "gatepost: is stopped before it has drained")
    must("redis" in gateway["depends_on"], "gatepost: starts before Redis")
    dockerfile = os.path.join(folder, gateway["build"]["context"], gateway["build"]["dockerfile"])
    must(os.path.exists(dockerfile), "gatepost: no Dockerfile")
    options = dict(zip(redis["command"][1::2], redis["command"][2::2]))
    must(options.get("--maxmemory-policy") == "noeviction", "redis: may forget claims")
    must(options.get("--appendonly") == "yes", "redis: forgets everything at a restart")
    must("ports" not in redis and whole["networks"]["store"]["internal"], "redis: can be reached from outside")
    must(whole["services"]["app"]["profiles"] == ["demo"], "app: starts without --profile demo")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
