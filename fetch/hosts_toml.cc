#include "fetch/hosts_toml.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "base/text.h"
#include "fetch/toml_text.h"
#include "fetch/url.h"

namespace lamina {
namespace {

constexpr size_t kMostHosts = 64;
constexpr size_t kMostItems = 64;  // of a list
constexpr std::string_view kApi = "/v2";

// One table of the file with where it stands, for messages.
struct Place {
  const toml::table& table;
  std::string where;
  std::string folder;
};

Error Wrong(const Place& place, const std::string& key, const std::string& what) {
  return {Code::kInvalid, fmt::format("{}: {} is {}", place.where, key, what)};
}

// One text or a list of them.
Result<std::vector<std::string>> TextsOf(const Place& place, const std::string& key,
                                         const toml::node* node) {
  std::vector<std::string> texts;
  if (node == nullptr) return texts;
  if (const auto text = node->value_exact<std::string>()) return std::vector<std::string>{*text};
  const toml::array* list = node->as_array();
  if (list == nullptr || list->size() > kMostItems) return Wrong(place, key, "no list of texts");
  for (const toml::node& item : *list) {
    const auto text = item.value_exact<std::string>();
    if (!text) return Wrong(place, key, "no list of texts");
    texts.push_back(*text);
  }
  return texts;
}

std::string InFolder(const std::string& folder, const std::string& path) {
  return path.empty() || path.starts_with("/") ? path : folder + "/" + path;
}

Status TakeCapabilities(const Place& place, HostsTomlHost* host) {
  const toml::node* node = place.table.get("capabilities");
  if (node == nullptr) return {};
  ASSIGN_OR_RETURN(const auto names, TextsOf(place, "capabilities", node));
  if (names.empty()) return {};  // as if nothing were said
  host->resolve = host->pull = false;
  for (const std::string& name : names) {
    host->resolve |= name == "resolve";
    host->pull |= name == "pull";
    if (name != "resolve" && name != "pull" && name != "push")
      return Wrong(place, "capabilities", Quote(name) + ", not pull, resolve or push");
  }
  return {};
}

// A file with both, a list of such, or a list of pairs [certificate, key]; libcurl shows one.
Status TakeClient(const Place& place, HostsTomlHost* host) {
  const toml::node* node = place.table.get("client");
  if (node == nullptr) return {};
  const toml::array* list = node->as_array();
  const toml::node* first = list != nullptr && !list->empty() ? list->get(0) : node;
  ASSIGN_OR_RETURN(const auto files, TextsOf(place, "client", first));
  if (files.empty()) return {};
  if (files.size() > 2) return Wrong(place, "client", "no pair of certificate and key");
  host->tls.client_cert = InFolder(place.folder, files.front());
  host->tls.client_key =
      files.size() < 2 || files.back().empty() ? "" : InFolder(place.folder, files.back());
  return {};
}

Status TakeHeaders(const Place& place, HostsTomlHost* host) {
  const toml::node* node = place.table.get("header");
  if (node == nullptr) return {};
  const toml::table* headers = node->as_table();
  if (headers == nullptr) return Wrong(place, "header", "no table");
  for (const auto& [name, values] : *headers) {
    const std::string key(name.str());
    ASSIGN_OR_RETURN(const auto texts, TextsOf(place, "header." + key, &values));
    for (const std::string& text : texts) host->headers.push_back(key + ": " + text);
  }
  return {};
}

// A duration of Go: "5s", "500ms", "1m30s".
std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"ms", 1}, {"us", 0.001}, {"ns", 0.000001}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
  double total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    double number = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (problem != std::errc() || number < 0) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    const auto unit = std::ranges::find_if(
        kUnits, [&](const auto& known) { return text.starts_with(known.first); });
    if (unit == std::end(kUnits)) return std::nullopt;
    total += number * unit->second;
    text.remove_prefix(unit->first.size());
  }
  if (!std::isfinite(total)) return std::nullopt;
  // From a millisecond to an hour: nothing waits for ever.
  return std::chrono::milliseconds(static_cast<int64_t>(std::clamp(total, 1.0, 3'600'000.0)));
}

Status TakeTimeout(const Place& place, HostsTomlHost* host) {
  const toml::node* node = place.table.get("dial_timeout");
  if (node == nullptr) return {};
  host->connect_timeout = ParseDuration(node->value_or(std::string()));
  if (!host->connect_timeout) return Wrong(place, "dial_timeout", "no duration, as \"5s\"");
  return {};
}

// What a [host."…"] table and the top of the file have in common.
Status TakeSettings(const Place& place, HostsTomlHost* host) {
  RETURN_IF_ERROR(TakeCapabilities(place, host));
  RETURN_IF_ERROR(TakeClient(place, host));
  RETURN_IF_ERROR(TakeHeaders(place, host));
  RETURN_IF_ERROR(TakeTimeout(place, host));
  ASSIGN_OR_RETURN(const auto cas, TextsOf(place, "ca", place.table.get("ca")));
  for (const std::string& ca : cas) host->tls.ca_files.push_back(InFolder(place.folder, ca));
  ASSIGN_OR_RETURN(host->tls.skip_verify, FlagOf(place.table, "skip_verify", place.where));
  ASSIGN_OR_RETURN(host->override_path, FlagOf(place.table, "override_path", place.where));
  return {};
}

Result<std::string> CheckedUrl(const Place& place, const std::string& text) {
  const std::string url = text.find("://") == std::string::npos ? "https://" + text : text;
  const auto parsed = Url::Parse(url);
  // The text itself may hold a password.
  if (!parsed) return Wrong(place, "the URL of a host", parsed.error().message);
  if (parsed->text().find('?') != std::string::npos)
    return Wrong(place, "the URL of a host", "one with a query");
  std::string clean = parsed->text();
  while (clean.ends_with("/")) clean.pop_back();
  return clean;
}

Result<HostsTomlHost> ParseHost(const std::string& url, const toml::node& node,
                                const std::string& file, const std::string& folder) {
  const std::string where = fmt::format("{}: line {}", file, node.source().begin.line);
  if (node.as_table() == nullptr) return Error{Code::kInvalid, where + ": a host is no table"};
  const Place place{*node.as_table(), where, folder};
  HostsTomlHost host;
  ASSIGN_OR_RETURN(host.url, CheckedUrl(place, url));
  RETURN_IF_ERROR(TakeSettings(place, &host));
  return host;
}

// toml++ keeps tables by name; the order of the file is that of their places in it.
Result<std::vector<HostsTomlHost>> ParseHosts(const toml::node* node, const std::string& file,
                                              const std::string& folder) {
  std::vector<HostsTomlHost> hosts;
  if (node == nullptr) return hosts;
  const toml::table* table = node->as_table();
  if (table == nullptr || table->size() > kMostHosts)
    return Error{Code::kInvalid,
                 fmt::format("{}: host is no table of at most {} hosts", file, kMostHosts)};
  std::vector<std::pair<std::string, const toml::node*>> found;
  for (const auto& [url, host] : *table) found.emplace_back(url.str(), &host);
  std::ranges::stable_sort(found, [](const auto& a, const auto& b) {
    const auto& left = a.second->source().begin;
    const auto& right = b.second->source().begin;
    return std::pair(left.line, left.column) < std::pair(right.line, right.column);
  });
  for (const auto& [url, host] : found) {
    ASSIGN_OR_RETURN(HostsTomlHost parsed, ParseHost(url, *host, file, folder));
    hosts.push_back(std::move(parsed));
  }
  return hosts;
}

}  // namespace

Result<HostsToml> ParseHostsToml(std::string_view text, const std::string& file) {
  ASSIGN_OR_RETURN(const toml::table table, ParseToml(text, file));
  const std::string folder = file.substr(0, file.rfind('/'));
  const Place top{table, file, folder};
  HostsToml parsed;
  RETURN_IF_ERROR(TakeSettings(top, &parsed.server));
  if (const toml::node* server = table.get("server")) {
    ASSIGN_OR_RETURN(parsed.server.url, CheckedUrl(top, server->value_or(std::string())));
  }
  ASSIGN_OR_RETURN(parsed.hosts, ParseHosts(table.get("host"), file, folder));
  return parsed;
}

std::string ApiUrl(const HostsTomlHost& host) {
  const bool has_path = host.url.find('/', host.url.find("://") + 3) != std::string::npos;
  if ((host.override_path && has_path) || host.url.ends_with(kApi)) return host.url;
  return host.url + std::string(kApi);
}

}  // namespace lamina
