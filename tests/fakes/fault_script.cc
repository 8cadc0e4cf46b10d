#include "tests/fakes/fault_script.h"

#include <algorithm>
#include <ctime>
#include <string>

namespace lamina::fakes {
namespace {

constexpr std::array<std::string_view, kFaults> kNames = {"chunked",
                                                          "close after",
                                                          "100 first",
                                                          "gzip label",
                                                          "200 for 206",
                                                          "multipart",
                                                          "relative redirect",
                                                          "foreign redirect",
                                                          "408",
                                                          "429",
                                                          "429 with seconds",
                                                          "500",
                                                          "502",
                                                          "503",
                                                          "503 with date",
                                                          "504",
                                                          "close before",
                                                          "reset",
                                                          "cut in head",
                                                          "cut in body",
                                                          "reset in body",
                                                          "chunked cut",
                                                          "silent",
                                                          "silent in body",
                                                          "dribble",
                                                          "wrong byte",
                                                          "short body",
                                                          "long body",
                                                          "empty 200",
                                                          "length too small",
                                                          "length too large",
                                                          "wrong digest header",
                                                          "range start",
                                                          "range end",
                                                          "range total",
                                                          "range unit",
                                                          "range star",
                                                          "range missing",
                                                          "other range",
                                                          "multipart broken",
                                                          "token ended",
                                                          "signature ended",
                                                          "garbage",
                                                          "huge headers",
                                                          "redirect loop",
                                                          "redirect to plain",
                                                          "304",
                                                          "404",
                                                          "416"};

bool IsOfRanges(Fault fault) {
  return fault == Fault::kWholeForRange || fault == Fault::kMultipart ||
         (fault >= Fault::kRangeStart && fault <= Fault::kMultipartBroken) || fault == Fault::k416;
}

bool IsOfBytes(Fault fault) {
  return fault == Fault::kGzipLabel || fault == Fault::kResetInBody || fault == Fault::kCutInBody ||
         fault == Fault::kSilentInBody ||
         (fault >= Fault::kDribble && fault <= Fault::kLengthTooLarge);
}

std::string HttpDate(time_t at) {
  tm parts{};
  ::gmtime_r(&at, &parts);
  std::array<char, 64> text{};
  std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return text.data();
}

FakeResponse Raw(std::string head, std::string&& body = {}) {
  FakeResponse response;
  response.raw = std::move(head);
  response.body = std::move(body);
  return response;
}

// The answer as bytes, with these headers besides its own.
std::string Head(const FakeResponse& response, const std::string& more) {
  std::string head = "HTTP/1.1 " + std::to_string(response.status) + " Status\r\n";
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  return head + more + "Connection: close\r\n\r\n";
}

std::string LengthHeader(size_t length) {
  return "Content-Length: " + std::to_string(length) + "\r\n";
}

// In pieces of 10,000 bytes.
std::string InChunks(std::string_view body) {
  std::string out;
  out.reserve(body.size() + body.size() / 1000 + 100);
  while (!body.empty()) {
    const std::string_view piece = body.substr(0, 10000);
    body.remove_prefix(piece.size());
    std::array<char, 32> size{};
    std::snprintf(size.data(), size.size(), "%zx\r\n", piece.size());
    out.append(size.data()).append(piece).append("\r\n");
  }
  return out.append("0\r\n\r\n");
}

FakeResponse Saying(int status, const std::string& retry_after) {
  FakeResponse response = Failing(status, "SCRIPTED");
  if (!retry_after.empty()) response.headers.emplace_back("Retry-After", retry_after);
  return response;
}

void SetHeader(FakeResponse& response, const std::string& name, const std::string& value) {
  std::erase_if(response.headers, [&](const auto& header) { return header.first == name; });
  if (!value.empty()) response.headers.emplace_back(name, value);
}

// The Content-Range of `good` with other numbers.
FakeResponse WithRange(FakeResponse good, const FakeRequest& request, int64_t first, int64_t last,
                       const std::string& total, const std::string& unit = "bytes ") {
  const auto range = request.Range().value_or(std::pair<uint64_t, uint64_t>(0, 1));
  std::string all;
  for (const auto& [name, value] : good.headers)
    if (name == "Content-Range") all = value.substr(value.find('/') + 1);
  SetHeader(good, "Content-Range",
            unit + std::to_string(static_cast<int64_t>(range.first) + first) + "-" +
                std::to_string(static_cast<int64_t>(range.second) - 1 + last) + "/" +
                (total.empty() ? all : total));
  return good;
}

FakeResponse AsMultipart(FakeResponse good, bool broken) {
  std::string range;
  for (const auto& [name, value] : good.headers)
    if (name == "Content-Range") range = value;
  SetHeader(good, "Content-Range", "");
  SetHeader(good, "Content-Type", "multipart/byteranges; boundary=\"a part\"");
  good.body = (broken ? "--another\r\n" : "--a part\r\n") +
              std::string("Content-Type: application/octet-stream\r\nContent-Range: ") + range +
              "\r\n\r\n" + good.body + "\r\n--a part--\r\n";
  return good;
}

// Answers that break off, or are not the bytes that were asked for.
FakeResponse Damaged(Fault fault, const FakeRequest& request, FakeResponse good) {
  const size_t size = good.body.size();
  switch (fault) {
    case Fault::kCutInHead:
      return Raw(Head(good, LengthHeader(size)).substr(0, 40));
    case Fault::kResetInBody:
      good.reset = true;
      [[fallthrough]];
    case Fault::kCutInBody:
      good.cut_after = size / 2;
      return good;
    case Fault::kChunkedCut: {
      std::string chunks = InChunks(good.body);
      chunks.resize(chunks.size() / 2);
      return Raw(Head(good, "Transfer-Encoding: chunked\r\n"), std::move(chunks));
    }
    case Fault::kSilentInBody:
      good.silent_after = size / 2;
      return good;
    case Fault::kDribble:
      good.dribble_after = size / 2;
      return good;
    case Fault::kWrongByte:
      good.body[size / 2] = static_cast<char>(good.body[size / 2] ^ 0x10);
      return good;
    case Fault::kShortBody:
      good.body.resize(size / 2);
      return good;
    case Fault::kLongBody:
      good.body += "and more";
      return good;
    case Fault::kLengthTooSmall:
      return Raw(Head(good, LengthHeader(size / 2)), std::move(good.body));
    case Fault::kLengthTooLarge:
      return Raw(Head(good, LengthHeader(size + 100)), std::move(good.body));
    case Fault::kWrongDigestHeader:
      SetHeader(good, "Docker-Content-Digest", "sha256:" + std::string(64, 'a'));
      return good;
    case Fault::kRangeStart:
      return WithRange(std::move(good), request, 1, 0, "");
    case Fault::kRangeEnd:
      return WithRange(std::move(good), request, 0, -1, "");
    case Fault::kRangeTotal:
      return WithRange(std::move(good), request, 0, 0, "999999999");
    case Fault::kRangeUnit:
      return WithRange(std::move(good), request, 0, 0, "", "pages ");
    case Fault::kRangeStar:
      return WithRange(std::move(good), request, 0, 0, "*");
    case Fault::kRangeMissing:
      SetHeader(good, "Content-Range", "");
      return good;
    case Fault::kOtherRange:  // as it says, and of the right length
      std::rotate(good.body.begin(), good.body.begin() + 1, good.body.end());
      return WithRange(std::move(good), request, 1, 1, "");
    default:
      return AsMultipart(std::move(good), /*broken=*/true);
  }
}

FakeResponse Statused(Fault fault) {
  switch (fault) {
    case Fault::k408:
      return Saying(408, "");
    case Fault::k429:
      return Saying(429, "");
    case Fault::k429Seconds:
      return Saying(429, "1");
    case Fault::k500:
      return Saying(500, "");
    case Fault::k502:
      return Saying(502, "");
    case Fault::k503:
      return Saying(503, "0");
    case Fault::k503Date:
      return Saying(503, HttpDate(std::time(nullptr) + 1));
    case Fault::k504:
      return Saying(504, "");
    case Fault::k304:
      return Raw("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
    case Fault::k404:
      return Saying(404, "");
    case Fault::k416:
      return Saying(416, "");
    default:
      return Saying(403, "");
  }
}

}  // namespace

std::string_view FaultName(Fault fault) { return kNames[static_cast<size_t>(fault)]; }

bool Applies(Fault fault, Asked asked, const FakeRequest& request, bool elsewhere) {
  if (fault == Fault::kSignatureEnded) return elsewhere;
  if (fault == Fault::kTokenEnded) return asked != Asked::kToken && !elsewhere;
  if (fault == Fault::kEmpty200) return asked != Asked::kToken;
  if (fault == Fault::kWrongDigestHeader)
    return asked == Asked::kDocument && request.path().ends_with("/manifests/v1");
  if (fault == Fault::kForeignRedirect || fault == Fault::kRelativeRedirect ||
      fault == Fault::kRedirectLoop || fault == Fault::kRedirectToPlain || fault == Fault::k404)
    return asked != Asked::kToken && !elsewhere;
  if (IsOfRanges(fault)) return asked == Asked::kLayer && request.Range();
  if (IsOfBytes(fault)) return asked == Asked::kDocument || asked == Asked::kLayer;
  return true;
}

Effect EffectOf(Fault fault) {
  if (fault <= Fault::kForeignRedirect) return Effect::kNone;
  return fault < Fault::kHugeHeaders ? Effect::kAgain : Effect::kLasting;
}

FakeResponse WithFault(Fault fault, const FakeRequest& request, FakeResponse good,
                       const std::string& elsewhere) {
  switch (fault) {
    case Fault::kChunked:
      return Raw(Head(good, "Transfer-Encoding: chunked\r\n"), InChunks(good.body));
    case Fault::kCloseAfter:
      return Raw(Head(good, LengthHeader(good.body.size())), std::move(good.body));
    case Fault::kContinueFirst:
      return Raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" +
                     Head(good, LengthHeader(good.body.size())),
                 std::move(good.body));
    case Fault::kGzipLabel:
      good.headers.emplace_back("Content-Encoding", "gzip");
      return good;
    case Fault::kMultipart:
      return AsMultipart(std::move(good), /*broken=*/false);
    case Fault::kRelativeRedirect:
      return RedirectTo("./" + request.path().substr(request.path().rfind('/') + 1) + "?again");
    case Fault::kForeignRedirect:
      return RedirectTo(elsewhere, 302);
    case Fault::kRedirectLoop:
      return RedirectTo(request.path() + "?round");
    case Fault::kRedirectToPlain:
      return RedirectTo("http://192.0.2.1/blob");  // an address of documentation; never asked
    case Fault::kReset:
      good.reset = true;
      [[fallthrough]];
    case Fault::kCloseBefore:
      good.no_answer = true;
      return good;
    case Fault::kSilent:
      good.silent = true;
      return good;
    case Fault::kEmpty200:
      return Bytes("");
    case Fault::kGarbage:
      return Raw("SSH-2.0-OpenSSH_9.2p1\r\n" + std::string(200, '\x01'));
    case Fault::kHugeHeaders:
      return Raw("HTTP/1.1 200 OK\r\nX-Filler: " + std::string(80 << 10, 'x') + "\r\n\r\n");
    default:
      break;
  }
  const bool by_status = (fault >= Fault::k408 && fault <= Fault::k504) || fault >= Fault::k304 ||
                         fault == Fault::kSignatureEnded;
  return by_status ? Statused(fault) : Damaged(fault, request, std::move(good));
}

}  // namespace lamina::fakes
