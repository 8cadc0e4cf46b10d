#pragma once

// The tables of the store (docs/formats-store.md). Called under the store's lock.

#include <string>

#include "base/result.h"
#include "index/sqlite.h"

namespace lamina {

// Makes the tables in an empty database and leaves one of this version as it is. kUnsupported for a
// newer one, kInvalid for a database of something else, kCorrupt where tables are missing. Where
// only the header says one of these and the tables are right, it is mended, and `*warning` says so.
Status PrepareSchema(Database& database, std::string* warning);

}  // namespace lamina
