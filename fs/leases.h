#pragma once

// Leases: what of the store is in use in this process (layers, trees, documents), so that nothing
// of it is collected as garbage. Who is about to use something takes a lease first; who collects
// does it only where nobody has one, and whoever wants one meanwhile waits until that is over,
// which is local disk work of moments. Any thread.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/mutex.h"

namespace lamina {

class Leases {
  struct Table;

 public:
  // What leases are taken on.
  static std::string OfLayer(const std::string& path_name) { return "layer " + path_name; }
  static std::string OfLayer(const Digest& layer) { return OfLayer(layer.PathName()); }
  static std::string OfTree(const std::string& path_name) { return "tree " + path_name; }
  static std::string OfTree(const Digest& key) { return OfTree(key.PathName()); }
  static std::string OfDocument(const Digest& document) {
    return "document " + document.ToString();
  }

  // Ends with its life, which may be longer than that of the Leases.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept = default;
    Lease& operator=(Lease&& other) noexcept;
    ~Lease() { Release(); }

   private:
    friend class Leases;
    void Release();
    std::shared_ptr<Table> table_;
    std::vector<std::string> names_;
  };

  Leases();
  Lease Take(std::vector<std::string> names);
  // Calls `collect` where nobody has a lease on `name`, and `may`, which is asked when nobody can
  // get one, says so; false otherwise. Neither takes a lease.
  bool Collect(const std::string& name, const std::function<bool()>& may,
               const std::function<void()>& collect);

 private:
  const std::shared_ptr<Table> table_;
};

}  // namespace lamina
