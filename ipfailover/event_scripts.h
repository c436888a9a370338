#pragma once
// The event scripts on disk: which there are, in which order they run, which are enabled.
//
//   <config-dir>/events/legacy/NN.name.script   CTDB's place
//   <config-dir>/events/NN.name.script          ours, shorter
//
// NN are two digits; other names are no scripts. They run in the byte order of their file names. A script that
// may be executed is enabled. If one name stands in both folders the one in events/legacy counts.
// The folders are read afresh at every run: a script that is dropped in counts at once.
//
// Shipped scripts stand in a folder of their own (CTDB's: /usr/share/ctdb/events/legacy). Enabling one makes a
// symbolic link to it in events/legacy, disabling one removes the link; a script that is a file there gets or
// loses its x bits instead. Both succeed when nothing was to be done.

#include <string>
#include <vector>

#include "db/base/result.h"

namespace tdbmesh {

struct EventScript {
  std::string name;  // "50.samba"
  std::string path;
  bool enabled = false;
};

// Where scripts are looked for.
struct EventFolders {
  std::string config_dir;            // has events/
  std::vector<std::string> shipped;  // folders of shipped scripts, first found wins
};
[[nodiscard]] EventFolders event_folders(const std::string& config_dir);

// Is "50.samba.script" a script's file name? Its name then is "50.samba".
[[nodiscard]] bool is_script_file(const std::string& file_name);

// In order of running; nothing if there are no folders. A component other than "legacy" is the folder
// events/COMPONENT alone; Fault::NotFound if that is not there.
[[nodiscard]] Result<std::vector<EventScript>> list_scripts(const EventFolders& folders,
                                                            const std::string& component = "legacy");
struct ScriptListing {
  std::vector<EventScript> shipped;  // enabled: linked to from events/
  std::vector<EventScript> own;      // everything else in events/
};
[[nodiscard]] Result<ScriptListing> list_for_operator(const EventFolders& folders, const std::string& component);
[[nodiscard]] Result<> set_script_enabled(const EventFolders& folders, const std::string& component,
                                          const std::string& name, bool enabled);

}  // namespace tdbmesh
