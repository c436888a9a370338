#!/bin/sh
# glusterd runs this on every server before a volume is stopped: see meta-volume.
exec /usr/libexec/tdbmesh/meta-volume stop "$@"
