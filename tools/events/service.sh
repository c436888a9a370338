# Sourced by the scripts beside it: start, stop and restart of a service of this machine, whoever manages services here.
# service_do start|stop|restart|reload NAME
service_do() {
  if [ -d /run/systemd/system ]; then
    systemctl "$1" "$2"
  elif command -v service >/dev/null; then
    service "$2" "$1"
  else
    echo "neither systemd nor service(8): cannot $1 $2"
    return 1
  fi
}
