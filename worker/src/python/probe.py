# Asked of every Python that might run a kernel: what it is, and whether it has an ipykernel. Runs on any Python
# since 2.6, so that one that is too old can say so. `sys` is built in; nothing else is imported before the
# working directory is off the path, because a json.py lying there is not ours.
import sys

if sys.path and sys.path[0] == "":
    del sys.path[0]

import json

answer = {"version": "%d.%d.%d" % tuple(sys.version_info[:3]), "executable": sys.executable or ""}

if sys.version_info >= (3, 9):
    import importlib.metadata
    import importlib.util
    import os
    import site
    import sysconfig

    def has(module):
        # A mere directory of that name is a namespace package and has no origin.
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return False
        return spec is not None and spec.origin is not None

    def version_of(package):
        try:
            return importlib.metadata.version(package) or "of unknown version"
        except importlib.metadata.PackageNotFoundError:
            return "of unknown version"

    def libc():
        try:
            return os.confstr("CS_GNU_LIBC_VERSION") or ""
        except (AttributeError, ValueError, OSError):
            return ""

    answer["implementation"] = sys.implementation.name
    answer["soabi"] = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag or sys.implementation.name
    answer["platform"] = sysconfig.get_platform()
    answer["libc"] = libc()
    answer["prefix"] = sys.prefix
    answer["base_prefix"] = sys.base_prefix
    answer["user_base"] = site.getuserbase() if site.ENABLE_USER_SITE else None
    answer["ipykernel"] = version_of("ipykernel") if has("ipykernel") and has("ipykernel_launcher") else None
    answer["pip"] = has("pip")
    answer["venv"] = has("venv") and has("ensurepip")

sys.stdout.write("\ntithon-probe " + json.dumps(answer) + "\n")
