"""Just enough of the CTDB client protocol for tests: controls over the daemon's socket, and bytes that no honest
client would send. A module, and a program to be run inside a node:

    client_socket.py SOCKET ping | attach NAME | hostile SEED | until-ok COUNT | stay SRVID
"""
import os
import random
import socket
import struct
import sys
import time

MAGIC, VERSION, CURRENT_NODE = 0x43544442, 1, 0xF0000001
REQ_CALL, REQ_MESSAGE, REQ_CONTROL, REPLY_CONTROL = 0, 5, 7, 8
PING, GETDBPATH, GETVNNMAP, GET_DBMAP, GET_RECMODE, DB_ATTACH, GET_PID = 3, 4, 5, 9, 15, 18, 30
GET_NODEMAP, TRANS3_COMMIT, GET_RUNSTATE, DB_OPEN_FLAGS = 91, 119, 138, 149
REGISTER_SRVID, TCP_CLIENT, GET_TCP_TICKLE_LIST = 23, 44, 55
REGISTER_NOTIFY, DEREGISTER_NOTIFY, CHECK_PID_SRVID, ECHO_DATA = 114, 115, 151, 156
TCP_CLIENT_DISCONNECTED, TCP_CLIENT_PASSED, START_IPREALLOCATE = 159, 160, 161
SRVID_IPREALLOCATED, SRVID_START_IPREALLOCATE = 0xF302000000000000, 0xF303000000000000
RUNNING = 5


def packet(operation, body, reqid=1, dest=CURRENT_NODE, length=None, magic=MAGIC, version=VERSION):
    size = 32 + len(body) if length is None else length
    return struct.pack('=8I', size & 0xffffffff, magic, version, 0, operation, dest, 0xffffffff, reqid) + body


def control_body(opcode, data=b'', datalen=None, srvid=0):
    return struct.pack('=IIQIII', opcode, 0, srvid, 0, 0, len(data) if datalen is None else datalen) + data


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.buffer = b''
        self.reqid = 0
        self.messages = []

    def control(self, opcode, data=b'', dest=CURRENT_NODE, srvid=0):
        """(status, data) of one control. Messages that come before its answer are kept for message()."""
        self.reqid += 1
        self.socket.sendall(packet(REQ_CONTROL, control_body(opcode, data, srvid=srvid), self.reqid, dest))
        while True:
            reply = self.read_packet()
            header = struct.unpack('=8I', reply[:32])
            if header[4] == REQ_MESSAGE:
                self.messages.append(reply)
            if header[4] == REPLY_CONTROL and header[7] == self.reqid:
                status, size, _ = struct.unpack('=iII', reply[32:44])
                return status, reply[44:44 + size]

    def message(self):
        """(srvid, data) of the next message to this client; waits for it."""
        while not self.messages:
            reply = self.read_packet()
            if struct.unpack_from('=I', reply, 16)[0] == REQ_MESSAGE:
                self.messages.append(reply)
        srvid, size = struct.unpack_from('=QI', self.messages[0], 32)
        return srvid, self.messages.pop(0)[44:44 + size]

    def read_packet(self):
        while len(self.buffer) < 4 or len(self.buffer) < struct.unpack('=I', self.buffer[:4])[0]:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError('the daemon closed the connection')
            self.buffer += more
        size = struct.unpack('=I', self.buffer[:4])[0]
        reply, self.buffer = self.buffer[:size], self.buffer[size:]
        return reply

    def attach(self, name):
        """Attaches a volatile database; the path of its file and the flags to open it with."""
        status, data = self.control(DB_ATTACH, name.encode() + b'\0')
        if status:
            raise RuntimeError('attach of %s failed: %d' % (name, status))
        status, path = self.control(GETDBPATH, data[:4])
        if status:
            raise RuntimeError('no path for %s: %d' % (name, status))
        status, flags = self.control(DB_OPEN_FLAGS, data[:4])
        if status:
            raise RuntimeError('no flags for %s: %d' % (name, status))
        return path.rstrip(b'\0').decode(), struct.unpack('=i', flags)[0]


def hostile_streams(rng):
    """Byte streams that a broken or hostile client may send, one per connection."""
    for size in (1, 3, 4, 31, 32, 33, 4096, 100000):
        yield rng.randbytes(size)
    honest = [packet(REQ_CONTROL, control_body(PING)),
              packet(REQ_CONTROL, control_body(GETVNNMAP)),
              packet(REQ_CONTROL, control_body(DB_ATTACH, b'hostile.tdb\0')),
              packet(REQ_CALL, struct.pack('=6I', 0, 0x12345678, 0, 0, 3, 0) + b'key'),
              packet(REQ_MESSAGE, struct.pack('=QI', 0xF300000000000000, 4) + b'abcd')]
    for whole in honest:
        for cut in range(0, len(whole), 3):
            yield whole[:cut]                                                   # ends in the middle
            yield struct.pack('=I', cut) + whole[4:cut]                         # a length that fits, a body that does not
        for lie in (0, 1, 31, 33, 0x7fffffff, 0x80000000, 0xffffffff):
            yield struct.pack('=I', lie) + whole[4:]
        yield whole[:4] + b'\xff' * 4 + whole[8:]                               # wrong magic
        yield whole[:8] + b'\xff' * 4 + whole[12:]                              # wrong version
        yield whole[:16] + struct.pack('=I', 0x7777) + whole[20:]               # no such operation
        yield whole[:20] + struct.pack('=I', 0x7777) + whole[24:]               # no such node
    for opcode in (PING, GETDBPATH, GET_DBMAP, DB_ATTACH, TRANS3_COMMIT, 100000):
        for lie in (0, 1, 3, 0x7fffffff, 0xffffffff):
            yield packet(REQ_CONTROL, control_body(opcode, rng.randbytes(40), datalen=lie))
        for size in (0, 1, 4, 7, 12, 1000):
            yield packet(REQ_CONTROL, control_body(opcode, rng.randbytes(size)))
    for lie in (0, 2, 0x7fffffff, 0xffffffff):
        yield packet(REQ_CALL, struct.pack('=6I', 0, 0x12345678, 0, 0, lie, lie) + b'key')
        yield packet(REQ_MESSAGE, struct.pack('=QI', 0xF300000000000000, lie) + b'abcd')


def be_hostile(path, seed):
    rng = random.Random(seed)
    count = 0
    for stream in hostile_streams(rng):
        connection = Connection(path)
        try:
            connection.socket.sendall(stream)
            if count % 2:
                connection.socket.shutdown(socket.SHUT_WR)      # some end politely, some just vanish
                connection.socket.settimeout(5)
                while connection.socket.recv(65536):
                    pass
        except OSError:
            pass
        connection.socket.close()
        count += 1
    return count


def until_ok(path, count):
    """Asks every few milliseconds until `count` nodes are without any flag, recovery is over and the daemon is in
    runstate RUNNING; returns the monotonic time, which is one clock for all nodes of a lab."""
    connection = None
    while True:
        try:
            connection = connection or Connection(path)
            _, nodes = connection.control(GET_NODEMAP)
            flags = [struct.unpack_from('=I', nodes, 4 + 36 * i + 4)[0] for i in range(struct.unpack_from('=I', nodes)[0])]
            recovering, _ = connection.control(GET_RECMODE)
            _, runstate = connection.control(GET_RUNSTATE)
            if flags.count(0) >= count and recovering == 0 and struct.unpack('=I', runstate[:4])[0] == RUNNING:
                return time.monotonic()
        except (OSError, struct.error):
            connection = None
        time.sleep(0.005)


def main(arguments):
    path, verb = arguments[0], arguments[1]
    if verb == 'ping':
        print(Connection(path).control(PING)[0])
    elif verb == 'attach':
        print(*Connection(path).attach(arguments[2]))
    elif verb == 'stay':
        connection = Connection(path)
        connection.control(REGISTER_SRVID, srvid=int(arguments[2], 0))
        print(os.getpid(), flush=True)
        sys.stdin.read()
    elif verb == 'until-ok':
        print(until_ok(path, int(arguments[2])))
    elif verb == 'hostile':
        print(be_hostile(path, int(arguments[2])))
    else:
        sys.exit(__doc__)


if __name__ == '__main__':
    main(sys.argv[1:])
