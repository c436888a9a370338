#include "ipfailover/netlink_addresses.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>

#include "db/base/time.h"

namespace tdbmesh::ipfailover {
namespace {

constexpr std::size_t kMostPerSend = 64;  // their answers fit into the default receive buffer
constexpr std::uint32_t kForEver = 0xFFFFFFFFu;
constexpr Duration kMostUntilReceived = milliseconds(20);
constexpr unsigned kReceivedStepUs = 200;

class Message {
 public:
  Message(std::uint16_t type, std::uint16_t flags) : bytes_(NLMSG_LENGTH(0), '\0') {
    header()->nlmsg_type = type;
    header()->nlmsg_flags = flags;
    header()->nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
  }
  void body(const void* data, std::size_t size) { append(data, size); }
  void attribute(std::uint16_t type, const void* data, std::size_t size) {
    rtattr head{};
    head.rta_type = type;
    head.rta_len = static_cast<std::uint16_t>(RTA_LENGTH(size));
    append(&head, sizeof head);
    append(data, size);
  }
  Bytes take() {
    header()->nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
    return std::move(bytes_);
  }

 private:
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes_.data()); }
  void append(const void* data, std::size_t size) {
    bytes_.append(static_cast<const char*>(data), size);
    bytes_.resize(NLMSG_ALIGN(bytes_.size()), '\0');
  }
  Bytes bytes_;
};

bool is_v4(const Address& a) { return a.family == Address::Family::V4; }
std::size_t length_of(const Address& a) { return is_v4(a) ? 4 : 16; }

// The kernel knows an address by family, prefix, interface and value.
ifaddrmsg address_head(const Address& address, std::uint8_t prefix, unsigned index, std::uint8_t scope) {
  ifaddrmsg head{};
  head.ifa_family = is_v4(address) ? AF_INET : AF_INET6;
  head.ifa_prefixlen = prefix;
  head.ifa_index = index;
  head.ifa_scope = scope;
  return head;
}

Bytes put_request(const Address& address, std::uint8_t prefix, unsigned index, std::uint8_t scope,
                  std::uint32_t flags, std::uint32_t lifetime) {
  Message message(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
  const ifaddrmsg head = address_head(address, prefix, index, scope);
  message.body(&head, sizeof head);
  message.attribute(IFA_LOCAL, address.bytes.data(), length_of(address));
  message.attribute(IFA_ADDRESS, address.bytes.data(), length_of(address));
  if (is_v4(address) && prefix < 31) {
    std::uint32_t broadcast = 0;
    std::memcpy(&broadcast, address.bytes.data(), 4);
    broadcast |= __builtin_bswap32(prefix == 0 ? 0xFFFFFFFFu : (0xFFFFFFFFu >> prefix));
    message.attribute(IFA_BROADCAST, &broadcast, 4);
  }
  if (flags != 0) message.attribute(IFA_FLAGS, &flags, sizeof flags);
  ifa_cacheinfo life{};
  life.ifa_valid = life.ifa_prefered = lifetime == 0 ? kForEver : lifetime;
  message.attribute(IFA_CACHEINFO, &life, sizeof life);
  return message.take();
}

Bytes remove_request(const KernelAddress& a) {
  Message message(RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK);
  const ifaddrmsg head = address_head(a.address, a.prefix, static_cast<unsigned>(a.interface_index), a.scope);
  message.body(&head, sizeof head);
  message.attribute(IFA_LOCAL, a.address.bytes.data(), length_of(a.address));
  message.attribute(IFA_ADDRESS, a.address.bytes.data(), length_of(a.address));
  return message.take();
}

// `ip -6 rule`: "4379: from ADDRESS blackhole". The kernel's own rules begin at 32766 (after 0, for what it receives).
constexpr std::uint32_t kMutePriority = 4379;

Bytes mute_request(const Address& address, bool on) {
  Message message(on ? RTM_NEWRULE : RTM_DELRULE,
                  static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | (on ? NLM_F_CREATE | NLM_F_EXCL : 0)));
  fib_rule_hdr head{};
  head.family = AF_INET6;
  head.src_len = 128;
  head.action = FR_ACT_BLACKHOLE;
  message.body(&head, sizeof head);
  message.attribute(FRA_SRC, address.bytes.data(), length_of(address));
  message.attribute(FRA_PRIORITY, &kMutePriority, sizeof kMutePriority);
  return message.take();
}

Result<> outcome(int code, const std::string& what) {
  if (code == 0) return {};
  Fault fault = Fault::Io;
  if (code == EPERM || code == EACCES) fault = Fault::Refused;
  if (code == ENODEV) fault = Fault::NotFound;
  const std::string advice = code == EPERM ? " (tdbmeshd needs CAP_NET_ADMIN for public addresses)" : "";
  return failure(fault, fmt::format("{}: {}{}", what, std::strerror(code), advice));
}

std::string spelled(const Address& address, unsigned prefix) {
  return fmt::format("{}/{}", ctdb::to_string(address), prefix);
}

bool same_place(const KernelAddress& a, const KernelAddress& b) {
  return a.address == b.address && a.interface_index == b.interface_index;
}

}  // namespace

std::optional<KernelAddress> parse_address_message(const void* nlmsghdr_at) {
  const auto* header = static_cast<const nlmsghdr*>(nlmsghdr_at);
  if (header->nlmsg_len < NLMSG_LENGTH(sizeof(ifaddrmsg))) return std::nullopt;
  const auto* head = static_cast<const ifaddrmsg*>(NLMSG_DATA(header));
  if (head->ifa_family != AF_INET && head->ifa_family != AF_INET6) return std::nullopt;
  KernelAddress found;
  found.address.family = head->ifa_family == AF_INET ? Address::Family::V4 : Address::Family::V6;
  found.prefix = head->ifa_prefixlen;
  found.interface_index = static_cast<int>(head->ifa_index);
  found.scope = head->ifa_scope;
  found.flags = head->ifa_flags;
  const std::size_t length = length_of(found.address);
  bool have = false;
  bool have_local = false;
  auto* attribute = const_cast<rtattr*>(reinterpret_cast<const rtattr*>(
      reinterpret_cast<const char*>(head) + NLMSG_ALIGN(sizeof(ifaddrmsg))));
  auto left = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof(ifaddrmsg)));
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    const std::size_t size = RTA_PAYLOAD(attribute);
    // On point-to-point links IFA_ADDRESS is the other end; IFA_LOCAL is always ours.
    if ((attribute->rta_type == IFA_LOCAL || (attribute->rta_type == IFA_ADDRESS && !have_local)) && size == length) {
      std::memcpy(found.address.bytes.data(), RTA_DATA(attribute), length);
      have = true;
      have_local = have_local || attribute->rta_type == IFA_LOCAL;
    } else if (attribute->rta_type == IFA_FLAGS && size == 4) {
      std::memcpy(&found.flags, RTA_DATA(attribute), 4);
    } else if (attribute->rta_type == IFA_CACHEINFO && size >= sizeof(ifa_cacheinfo)) {
      ifa_cacheinfo life{};
      std::memcpy(&life, RTA_DATA(attribute), sizeof life);
      if (life.ifa_valid != kForEver) found.valid_seconds = life.ifa_valid;
    }
  }
  if (!have) return std::nullopt;
  return found;
}

Result<std::unique_ptr<NetlinkAddresses>> NetlinkAddresses::open() {
  const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return system_failure("cannot open a netlink socket");
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&self), sizeof self) != 0) {
    auto error = system_failure("cannot bind a netlink socket");
    ::close(fd);
    return error;
  }
  const timeval patience{2, 0};  // the kernel answers at once; this only keeps a lost answer from hanging us
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const int one = 1;
  ::setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);  // answers without a copy of the request
  return std::unique_ptr<NetlinkAddresses>(new NetlinkAddresses(fd));
}

NetlinkAddresses::~NetlinkAddresses() { ::close(fd_); }

std::vector<int> NetlinkAddresses::transact(std::vector<Bytes>& requests) {
  std::vector<int> results(requests.size(), EIO);
  alignas(nlmsghdr) char buffer[32 * 1024];
  for (std::size_t from = 0; from < requests.size(); from += kMostPerSend) {
    const std::size_t count = std::min(kMostPerSend, requests.size() - from);
    std::vector<iovec> parts;
    const std::uint32_t first = sequence_ + 1;
    for (std::size_t i = from; i < from + count; ++i) {
      reinterpret_cast<nlmsghdr*>(requests[i].data())->nlmsg_seq = ++sequence_;
      parts.push_back({requests[i].data(), requests[i].size()});
    }
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    msghdr out{};
    out.msg_name = &kernel;
    out.msg_namelen = sizeof kernel;
    out.msg_iov = parts.data();
    out.msg_iovlen = parts.size();
    if (::sendmsg(fd_, &out, 0) < 0) {
      std::fill_n(results.begin() + static_cast<std::ptrdiff_t>(from), count, errno);
      continue;
    }
    for (std::size_t answered = 0; answered < count;) {
      const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) break;
      auto left = static_cast<unsigned>(got);
      for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
        const std::uint32_t index = header->nlmsg_seq - first;
        if (header->nlmsg_type != NLMSG_ERROR || index >= count) continue;  // of an earlier, abandoned call
        results[from + index] = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
        ++answered;
      }
    }
  }
  return results;
}

Result<> NetlinkAddresses::put(const AddressToPut& address, std::uint32_t lifetime) {
  Result<> done = put(std::vector<AddressToPut>{address}, lifetime).front();
  if (!done || is_v4(address.address)) return done;
  // Who is told of the address before the kernel receives for it sends into nothing. Worse: what we ask of the neighbours
  // ourselves with it as source stays unanswered, and then nothing leaves towards them for a whole second.
  const Instant give_up = boot_time_now() + kMostUntilReceived;
  while (!receives_for(address.address) && boot_time_now() < give_up) ::usleep(kReceivedStepUs);
  return done;
}

bool NetlinkAddresses::receives_for(const Address& address) {
  Message message(RTM_GETROUTE, NLM_F_REQUEST);
  rtmsg head{};
  head.rtm_family = is_v4(address) ? AF_INET : AF_INET6;
  head.rtm_dst_len = static_cast<std::uint8_t>(length_of(address) * 8);
  message.body(&head, sizeof head);
  message.attribute(RTA_DST, address.bytes.data(), length_of(address));
  Bytes request = message.take();
  const std::uint32_t sequence = ++sequence_;
  reinterpret_cast<nlmsghdr*>(request.data())->nlmsg_seq = sequence;
  if (::send(fd_, request.data(), request.size(), 0) < 0) return false;
  alignas(nlmsghdr) char buffer[4096];
  while (true) {
    const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    auto left = static_cast<unsigned>(got);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_seq != sequence) continue;  // of an earlier, abandoned call
      return header->nlmsg_type == RTM_NEWROUTE && header->nlmsg_len >= NLMSG_LENGTH(sizeof(rtmsg)) &&
             static_cast<const rtmsg*>(NLMSG_DATA(header))->rtm_type == RTN_LOCAL;
    }
  }
}

std::vector<Result<>> NetlinkAddresses::put(const std::vector<AddressToPut>& addresses, std::uint32_t lifetime) {
  std::vector<Result<>> results(addresses.size());
  std::vector<Bytes> requests;
  std::vector<std::size_t> places;
  std::map<std::string, unsigned> indexes;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const AddressToPut& a = addresses[i];
    auto [index, fresh] = indexes.try_emplace(a.interface, 0);
    if (fresh) index->second = ::if_nametoindex(a.interface.c_str());
    if (index->second == 0) {
      results[i] = failure(Fault::NotFound, fmt::format("cannot put {} on {}: there is no such interface",
                                                        spelled(a.address, a.prefix), a.interface));
      continue;
    }
    const std::uint32_t flags = is_v4(a.address) ? 0 : IFA_F_NODAD;
    requests.push_back(put_request(a.address, a.prefix, index->second, RT_SCOPE_UNIVERSE, flags, lifetime));
    places.push_back(i);
  }
  const std::vector<int> codes = transact(requests);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const AddressToPut& a = addresses[places[i]];
    results[places[i]] = outcome(codes[i], fmt::format("cannot put {} on {}", spelled(a.address, a.prefix), a.interface));
  }
  return results;
}

std::vector<Result<>> NetlinkAddresses::remove(const std::vector<KernelAddress>& addresses) {
  std::set<std::string> interfaces;
  for (const KernelAddress& a : addresses) interfaces.insert(a.interface);
  bool keeps_siblings = true;
  for (const std::string& name : interfaces) keeps_siblings = promote_secondaries(name) && keeps_siblings;
  std::vector<KernelAddress> before;
  if (!keeps_siblings) {
    if (auto all = list()) before = std::move(*all);
  }
  std::vector<Bytes> requests;
  requests.reserve(addresses.size());
  for (const KernelAddress& a : addresses) requests.push_back(remove_request(a));
  const std::vector<int> codes = transact(requests);
  std::vector<Result<>> results;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const KernelAddress& a = addresses[i];
    const int code = codes[i] == EADDRNOTAVAIL || codes[i] == ENODEV ? 0 : codes[i];
    results.push_back(outcome(code, fmt::format("cannot remove {} from {}", spelled(a.address, a.prefix), a.interface)));
  }
  if (!before.empty()) {
    std::vector<KernelAddress> after;
    if (auto all = list()) after = std::move(*all);
    std::vector<Bytes> lost;
    for (const KernelAddress& a : before) {
      const auto is_it = [&](const KernelAddress& other) { return same_place(a, other); };
      if (!interfaces.contains(a.interface) || std::any_of(addresses.begin(), addresses.end(), is_it)) continue;
      if (std::any_of(after.begin(), after.end(), is_it)) continue;
      lost.push_back(put_request(a.address, a.prefix, static_cast<unsigned>(a.interface_index), a.scope,
                                 a.flags & (IFA_F_NODAD | IFA_F_NOPREFIXROUTE), a.valid_seconds.value_or(0)));
    }
    (void)transact(lost);
  }
  return results;
}

void NetlinkAddresses::mute(const std::vector<KernelAddress>& addresses) {
  std::vector<Bytes> requests;
  for (const KernelAddress& a : addresses) {
    if (!is_v4(a.address)) requests.push_back(mute_request(a.address, true));
  }
  (void)transact(requests);
}

void NetlinkAddresses::unmute(const std::vector<Address>& addresses) {
  std::vector<Bytes> requests;
  for (const Address& a : addresses) {
    if (!is_v4(a)) requests.push_back(mute_request(a, false));
  }
  (void)transact(requests);
}

Result<std::vector<KernelAddress>> NetlinkAddresses::list() {
  Message message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
  ifaddrmsg any{};
  any.ifa_family = AF_UNSPEC;
  message.body(&any, sizeof any);
  Bytes request = message.take();
  const std::uint32_t sequence = ++sequence_;
  reinterpret_cast<nlmsghdr*>(request.data())->nlmsg_seq = sequence;
  if (::send(fd_, request.data(), request.size(), 0) < 0) return system_failure("cannot ask for the addresses");
  std::vector<KernelAddress> found;
  std::map<int, std::string> names;
  alignas(nlmsghdr) char buffer[64 * 1024];
  while (true) {
    const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_failure("cannot read the addresses");
    auto left = static_cast<unsigned>(got);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_seq != sequence) continue;
      if (header->nlmsg_type == NLMSG_DONE) return found;
      if (header->nlmsg_type == NLMSG_ERROR) {
        errno = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
        return system_failure("cannot read the addresses");
      }
      auto address = parse_address_message(header);
      if (!address) continue;
      std::string& name = names[address->interface_index];
      if (name.empty()) {
        char text[IF_NAMESIZE] = {};
        if (::if_indextoname(static_cast<unsigned>(address->interface_index), text) != nullptr) name = text;
      }
      address->interface = name;
      found.push_back(std::move(*address));
    }
  }
}

bool NetlinkAddresses::promote_secondaries(const std::string& interface) {
  for (const std::string& which : {std::string("all"), interface}) {
    const std::string path = "/proc/sys/net/ipv4/conf/" + which + "/promote_secondaries";
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    char value = '0';
    const bool set = fd >= 0 && ::read(fd, &value, 1) == 1 && value != '0';
    if (fd >= 0) ::close(fd);
    if (set) return true;
    if (which == "all") continue;  // ask for no more than is needed
    const int out = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (out < 0) return false;
    const bool written = ::write(out, "1", 1) == 1;
    ::close(out);
    return written;
  }
  return false;
}

}  // namespace tdbmesh::ipfailover
