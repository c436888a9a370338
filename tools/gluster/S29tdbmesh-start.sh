#!/bin/sh
# glusterd runs this on every server after a volume was started: see meta-volume.
exec /usr/libexec/tdbmesh/meta-volume start "$@"
