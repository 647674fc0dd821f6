#!/bin/sh
# birdfeed's commands with the settings of this host's pool, for root: install -m 0755 birdfeed.sh /usr/local/bin/birdfeed
# systemd reads the settings as it does for the unit; `birdfeed dead log` names the person behind sudo.
exec systemd-run --quiet --collect --wait --pty --pipe --same-dir --setenv=LOGNAME="${SUDO_USER:-root}" \
  --property=EnvironmentFile=/etc/birdfeed/worker.env /opt/birdfeed/.venv/bin/birdfeed "$@"
