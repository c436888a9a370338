#include "tools/dbtool/arguments.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "tools/client/text.h"

namespace tdbmesh::dbtool {

std::string usage() {
  return "Usage: dbtool [OPTION...] VERB [ARGUMENT...]\n"
         "  list                 the databases\n"
         "  info DB              one database: kind, path, records, sequence number\n"
         "  keys DB              the keys\n"
         "  get DB KEY           the value of a record\n"
         "  put DB KEY VALUE     writes a record, on all nodes or not at all\n"
         "  del DB KEY           deletes it\n"
         "  where DB KEY         lmaster, dmaster, and who has copies\n"
         "  dump DB              all records\n"
         "  check [DB]           reads everything, compares the nodes' sequence numbers\n"
         "  digest DB|all        one number for the contents: equal copies have equal digests\n"
         "  watch DB             prints changes as they happen\n"
         "  import FILE [DB]     a persistent database from CTDB: its NAME.tdb.N, or a file of ctdb backupdb\n"
         "  export DB FILE       into such a file: a TDB if FILE ends in .tdb or .tdb.N, else a backup\n"
         "Options:\n"
         "  --hex, --base64      keys and values in this form, typed and shown (default: text with \\n \\0 \\xNN)\n"
         "  --raw                get: the bytes as they are\n"
         "  --decode, --no-decode  show what Samba's records mean (default: on a terminal)\n"
         "  --json               output as JSON\n"
         "  --headers            digest: over the record headers too\n"
         "  --files DIR          read the files in DIR (a state directory), not the live node\n"
         "  --socket PATH        the daemon's socket\n"
         "  -t SEC               time limit (10)\n"
         "  --replace            import: also into a database that has records; they are replaced\n"
         "  --format F           export: tdb or backup, whatever the file's name\n"
         "  --changes N          watch: end after N changes\n";
}

std::variant<Arguments, ctl::StopHere> parse_arguments(std::vector<std::string> words) {
  Arguments a;
  CLI::App app;
  app.set_help_flag();
  bool help = false;
  bool hex = false;
  bool base64 = false;
  bool raw = false;
  bool decode = false;
  bool no_decode = false;
  std::vector<std::string> typed;
  app.add_flag("-h,--help", help);
  app.add_flag("--hex", hex);
  app.add_flag("--base64", base64);
  app.add_flag("--raw", raw);
  app.add_flag("--decode", decode);
  app.add_flag("--no-decode", no_decode);
  app.add_flag("--json", a.json);
  app.add_flag("--headers", a.headers);
  app.add_option("--files", a.files)->allow_extra_args(false);  // one directory each; what follows is the verb
  app.add_option("--socket", a.socket);
  app.add_option("-t,--timelimit", a.timelimit);
  app.add_option("--changes", a.changes);
  app.add_flag("--replace", a.replace);
  app.add_option("--format", a.format);
  app.add_option("words", typed);
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return ctl::StopHere{1, fmt::format("dbtool: {}; see dbtool --help", error.what())};
  }
  if (help) return ctl::StopHere{0, usage()};
  if (typed.empty()) return ctl::StopHere{1, usage()};
  if (hex + base64 + raw > 1) return ctl::StopHere{1, "dbtool: choose one of --hex, --base64 and --raw"};
  if (hex) a.encoding = Encoding::Hex;
  if (base64) a.encoding = Encoding::Base64;
  if (raw) a.encoding = Encoding::Raw;
  if (decode) a.decode = true;
  if (no_decode) a.decode = false;
  a.verb = typed.front();
  a.args.assign(typed.begin() + 1, typed.end());
  return a;
}

Result<Bytes> typed_bytes(const std::string& text, Encoding encoding) {
  switch (encoding) {
    case Encoding::Hex:
      if (auto bytes = from_hex(text.starts_with("0x") ? text.substr(2) : text)) return *bytes;
      return failure(Fault::Malformed, fmt::format("'{}' is not hex: give an even number of hex digits", text));
    case Encoding::Base64: return from_base64(text);
    case Encoding::Text:
    case Encoding::Raw: break;
  }
  return unescape_c(text);
}

std::string shown_bytes(BytesView bytes, Encoding encoding) {
  switch (encoding) {
    case Encoding::Hex: return to_hex(bytes);
    case Encoding::Base64: return to_base64(bytes);
    case Encoding::Raw: return Bytes(bytes);
    case Encoding::Text: break;
  }
  return escape_c(bytes);
}

}  // namespace tdbmesh::dbtool
