#pragma once

// Rows of a query as values. Called under the store's lock.

#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "index/sqlite.h"

namespace lamina {

// All rows, each made by std::optional<Row> make(const Statement&). One whose bytes have rotted
// unnoticed by SQLite (a digest that is none) is left out: make() gives nothing for it.
template <typename Row, typename Make>
Result<std::vector<Row>> CollectRows(Statement& select, Make make) {
  std::vector<Row> rows;
  for (;;) {
    ASSIGN_OR_RETURN(const bool found, select.Step());
    if (!found) return rows;
    if (std::optional<Row> row = make(std::as_const(select))) rows.push_back(std::move(*row));
  }
}

}  // namespace lamina
