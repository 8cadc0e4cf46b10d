#include "index/toc_json.h"

#include <array>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/text.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 64;
// Bytes between two events of the parser, which keeps them in memory. The greatest honest value is
// an xattr of 64 KiB in base64.
constexpr uint64_t kMaxToken = 2u << 20;
constexpr int64_t kVersion = 1;

Error Invalid(std::string reason) { return Error{Code::kInvalid, std::move(reason)}; }

struct Field {
  std::string_view key;
  std::string TocRecord::*text = nullptr;
  std::optional<int64_t> TocRecord::*number = nullptr;
};

constexpr std::array<Field, 18> kFields = {{
    {.key = "type", .text = &TocRecord::type},
    {.key = "name", .text = &TocRecord::name},
    {.key = "linkName", .text = &TocRecord::link_name},
    {.key = "modtime", .text = &TocRecord::modtime},
    {.key = "digest", .text = &TocRecord::digest},
    {.key = "chunkDigest", .text = &TocRecord::chunk_digest},
    {.key = "chunkType", .text = &TocRecord::chunk_type},
    {.key = "size", .number = &TocRecord::size},
    {.key = "mode", .number = &TocRecord::mode},
    {.key = "uid", .number = &TocRecord::uid},
    {.key = "gid", .number = &TocRecord::gid},
    {.key = "devMajor", .number = &TocRecord::device_major},
    {.key = "devMinor", .number = &TocRecord::device_minor},
    {.key = "offset", .number = &TocRecord::offset},
    {.key = "endOffset", .number = &TocRecord::end_offset},
    {.key = "innerOffset", .number = &TocRecord::inner_offset},
    {.key = "chunkOffset", .number = &TocRecord::chunk_offset},
    {.key = "chunkSize", .number = &TocRecord::chunk_size},
}};
constexpr size_t kXattrsField = kFields.size();
constexpr size_t kUnknown = kXattrsField + 1;

// What stands before the parser: bytes of the pieces, one by one.
class Feed {
 public:
  explicit Feed(const JsonPieces& pieces) : pieces_(pieces) {}

  // False at the end, and for good after an error.
  bool HasByte() {
    while (piece_.empty() && !ended_) Refill();
    return !ended_;
  }
  char Byte() const { return static_cast<char>(piece_.front()); }
  void Advance() {
    piece_ = piece_.subspan(1);
    if (++since_event_ <= kMaxToken) return;
    Stop(Error{Code::kLimit, "it has a value above the limit of " + HumanSize(kMaxToken)});
  }
  void OnEvent() { since_event_ = 0; }

  const std::optional<Error>& error() const { return error_; }

 private:
  void Refill() {
    Result<ByteSpan> next = pieces_();
    if (!next) return Stop(next.error());
    piece_ = *next;
    ended_ = piece_.empty();
  }
  void Stop(Error error) {
    error_ = std::move(error);
    piece_ = {};
    ended_ = true;
  }

  const JsonPieces& pieces_;
  ByteSpan piece_;
  uint64_t since_event_ = 0;
  bool ended_ = false;
  std::optional<Error> error_;
};

// The form in which the parser takes bytes. Copies share the feed, as those of an istream iterator.
class FeedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;

  FeedIterator() = default;
  explicit FeedIterator(Feed* feed) : feed_(feed) {}

  char operator*() const { return feed_->Byte(); }
  FeedIterator& operator++() {
    feed_->Advance();
    return *this;
  }
  FeedIterator operator++(int) {
    feed_->Advance();
    return *this;
  }
  friend bool operator==(const FeedIterator& a, const FeedIterator& b) {
    return a.AtEnd() == b.AtEnd();
  }
  friend bool operator!=(const FeedIterator& a, const FeedIterator& b) { return !(a == b); }

 private:
  bool AtEnd() const { return feed_ == nullptr || !feed_->HasByte(); }
  Feed* feed_ = nullptr;
};

class Reader final : public nlohmann::json_sax<Json> {
 public:
  Reader(Feed* feed, const TocRecordSink& sink) : feed_(*feed), sink_(sink) {}

  bool null() override {
    feed_.OnEvent();
    // To Go a null value of a map of bytes is an empty one.
    if (At() == Place::kXattrs) return AddXattr("");
    return At() == Place::kRecords ? Fail("it has an entry that is no object") : true;
  }
  bool boolean(bool) override { return Scalar("a truth value"); }
  bool number_float(number_float_t, const string_t&) override { return Scalar("a fraction"); }
  bool binary(binary_t&) override { return Scalar("binary"); }
  bool number_integer(number_integer_t value) override { return Number(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return Scalar("a number above 63 bits");
    return Number(static_cast<int64_t>(value));
  }

  bool string(string_t& value) override {
    feed_.OnEvent();
    if (At() == Place::kXattrs) return AddXattr(std::move(value));
    if (At() != Place::kRecord || field_ >= kXattrsField || kFields[field_].text == nullptr)
      return Scalar("a string");
    record_.*(kFields[field_].text) = std::move(value);
    return true;
  }

  bool key(string_t& key) override {
    feed_.OnEvent();
    switch (At()) {
      case Place::kTop:
        return TopKey(key);
      case Place::kRecord:
        return RecordKey(key);
      case Place::kXattrs:
        xattr_ = key;
        return record_.xattrs.contains(key) ? Fail("it has the xattr " + Quote(key, 80) + " twice")
                                            : true;
      default:
        return true;
    }
  }

  bool start_object(std::size_t) override {
    feed_.OnEvent();
    switch (At()) {
      case Place::kStart:
        return Enter(Place::kTop);
      case Place::kTop:
        return top_known_ ? Scalar("an object") : Enter(Place::kIgnored);
      case Place::kRecords:
        record_ = {};
        seen_ = 0;
        return Enter(Place::kRecord);
      case Place::kRecord:
        if (field_ == kXattrsField) return Enter(Place::kXattrs);
        return field_ == kUnknown ? Enter(Place::kIgnored) : Scalar("an object");
      case Place::kXattrs:
        return Scalar("an object");
      default:
        return Enter(Place::kIgnored);
    }
  }

  bool end_object() override {
    feed_.OnEvent();
    const Place ended = At();
    places_.pop_back();
    if (ended != Place::kRecord) return true;
    Status taken = sink_(std::move(record_));
    if (taken) return true;
    error_ = taken.error();
    return false;
  }

  bool start_array(std::size_t) override {
    feed_.OnEvent();
    if (At() == Place::kTop && key_ == "entries") return Enter(Place::kRecords);
    const bool ignored = At() == Place::kIgnored || (At() == Place::kTop && !top_known_) ||
                         (At() == Place::kRecord && field_ == kUnknown);
    return ignored ? Enter(Place::kIgnored) : Scalar("an array");
  }
  bool end_array() override {
    feed_.OnEvent();
    places_.pop_back();
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    return Fail("it is not JSON (error at byte " + std::to_string(position) + ")");
  }

  Status Finish() const {
    if (error_) return *error_;
    if (version_ != kVersion)
      return Error{Code::kUnsupported,
                   version_ ? "it has version " + std::to_string(*version_) + ", only 1 is known"
                            : "it has no version"};
    return {};
  }

 private:
  // Where in the document the parser is.
  enum class Place : uint8_t { kStart, kTop, kRecords, kRecord, kXattrs, kIgnored };

  Place At() const { return places_.empty() ? Place::kStart : places_.back(); }
  bool Enter(Place place) {
    places_.push_back(place);
    if (places_.size() <= kMaxDepth) return true;
    error_ =
        Error{Code::kLimit, "its JSON nests deeper than the limit of " + std::to_string(kMaxDepth)};
    return false;
  }
  bool Fail(std::string reason) {
    error_ = Invalid(std::move(reason));
    return false;
  }

  // A value of this kind, which nobody takes: an error where a member that is known has it.
  bool Scalar(const char* kind) {
    feed_.OnEvent();
    const bool known = At() == Place::kStart || At() == Place::kRecords || At() == Place::kXattrs ||
                       (At() == Place::kTop && top_known_) ||
                       (At() == Place::kRecord && field_ != kUnknown);
    return known ? Fail("it has " + std::string(kind) + " where " + Quote(key_, 80) +
                        " wants something else")
                 : true;
  }

  bool Number(int64_t value) {
    feed_.OnEvent();
    if (At() == Place::kTop && key_ == "version") {
      version_ = value;
      return true;
    }
    if (At() != Place::kRecord || field_ >= kXattrsField || kFields[field_].number == nullptr)
      return Scalar("a number");
    record_.*(kFields[field_].number) = value;
    return true;
  }

  bool AddXattr(std::string value) {
    record_.xattrs[xattr_] = std::move(value);
    return true;
  }

  bool TopKey(const std::string& key) {
    key_ = key;
    const size_t number = key == "version" ? 0 : key == "entries" ? 1 : 2;
    top_known_ = number < 2;
    if (!top_known_) {
      const std::string folded = FoldJsonKey(key);
      return folded == "version" || folded == "entries" ? WrongCase(key) : true;
    }
    if (top_seen_[number]) return Twice(key);
    return top_seen_[number] = true;
  }

  bool RecordKey(const std::string& key) {
    key_ = key;
    field_ = Find(key);
    if (field_ == kUnknown) return DiffersFromAll(key) ? true : WrongCase(key);
    const uint32_t bit = 1u << field_;
    if ((seen_ & bit) != 0) return Twice(key);
    seen_ |= bit;
    return true;
  }

  static size_t Find(std::string_view key) {
    for (size_t i = 0; i < kFields.size(); ++i)
      if (kFields[i].key == key) return i;
    return key == "xattrs" ? kXattrsField : kUnknown;
  }
  static bool DiffersFromAll(std::string_view key) {
    const std::string folded = FoldJsonKey(key);
    for (const Field& field : kFields)
      if (folded.size() == field.key.size() && folded == FoldJsonKey(field.key)) return false;
    return folded != "xattrs";
  }
  bool Twice(const std::string& key) {
    return Fail("it has the key " + Quote(key, 80) + " twice in one object");
  }
  bool WrongCase(const std::string& key) {
    return Fail("it has the key " + Quote(key, 80) + ", which differs from a known one in case");
  }

  Feed& feed_;
  const TocRecordSink& sink_;
  std::vector<Place> places_;
  std::string key_;         // the last of the document or of a record
  bool top_known_ = false;  // the last key of the document is one of ours
  std::array<bool, 2> top_seen_{};
  size_t field_ = kUnknown;  // that the last key of a record names
  uint32_t seen_ = 0;        // fields of the record, a bit each
  std::string xattr_;
  TocRecord record_;
  std::optional<int64_t> version_;
  std::optional<Error> error_;
};

}  // namespace

Status ReadTocJson(const JsonPieces& pieces, const TocRecordSink& sink) {
  try {
    Feed feed(pieces);
    Reader reader(&feed, sink);
    const bool sound = Json::sax_parse(FeedIterator(&feed), FeedIterator(), &reader);
    if (feed.error()) return *feed.error();
    RETURN_IF_ERROR(reader.Finish());
    return sound ? Status() : Status(Invalid("it is not JSON"));
  } catch (const std::exception& failure) {
    return Error{Code::kInternal, std::string("it cannot be read as JSON: ") + failure.what()};
  }
}

}  // namespace lamina
