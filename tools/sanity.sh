#!/usr/bin/env bash
# ansible-test sanity, inside tools/staged.sh. With a version of ansible-core (2.16) first: under that one.
# Other arguments are ansible-test's.
set -euo pipefail

if [[ ${1-} =~ ^[0-9] ]]; then
    core=$VIRTUAL_ENV/cores/$1
    if [[ ! -e $core/.ready ]]; then
        python -m venv --clear "$core"
        "$core/bin/pip" install --quiet --disable-pip-version-check "ansible-core==$1.*"
        touch "$core/.ready"
    fi
    PATH=$core/bin:$PATH
    shift
fi

# Another one may run at the same time: what both need comes into being by a rename.
settle() {
    local partial
    partial=$(mktemp "$1.XXXXXX")
    cat >"$partial"
    mv "$partial" "$1"
}

# ansible-test fetches get-pip from a server that a closed network lacks; Python's own ensurepip does the same.
cache=$HOME/.ansible/test/cache
mkdir -p "$cache"
for release in 23_1_2 24_2; do
    settle "$cache/get_pip_$release.py" <<'PYTHON'
import subprocess, sys
sys.exit(subprocess.call([sys.executable, "-m", "ensurepip", "--default-pip"]))
PYTHON
done

# ansible-test drops PIP_* and the proxies from the environment, and $HOME is not the user's: hand pip's settings on.
mkdir -p "$HOME/.config/pip"
python - <<'PYTHON' | settle "$HOME/.config/pip/pip.conf"
import ast, os, subprocess, sys
options = {}
for line in subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True).splitlines():
    name, _, value = line.partition("=")
    section, _, option = name.rpartition(".")
    if section in (":env:", "global"):  # in this order: what the environment says wins
        options.setdefault(option, ast.literal_eval(value).replace("\n", "\n  "))
if "https_proxy" in os.environ:
    options.setdefault("proxy", os.environ["https_proxy"])
print("[global]", *(f"{option} = {value}" for option, value in options.items()), sep="\n")
PYTHON

minor=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ansible-test sanity --venv --python "$minor" --color no "$@"
