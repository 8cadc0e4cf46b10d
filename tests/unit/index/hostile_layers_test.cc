// Layers that are ambiguous or hostile, each with the outcome that docs/semantics.md promises: this
// tree and no other, or a refusal whose message names the entry and the reason.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/tar_builder.h"
#include "tests/unit/index/index_tools.h"

namespace lamina::testing {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using Magic = TarEntrySpec::Magic;

struct HostileLayer {
  const char* name;
  std::string tar;
  // Either the tree …
  std::vector<std::string> tree{};
  // … or the refusal: its code and what its message has in it.
  std::vector<std::string> refusal{};
  Code code = Code::kInvalid;
  std::vector<std::string> warnings{};  // in parts
};

void PrintTo(const HostileLayer& layer, std::ostream* out) { *out << layer.name; }

std::string Long(size_t size) { return std::string(size, 'n'); }

std::string Repeat(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

TarEntrySpec Device(std::string name, int64_t major, int64_t minor, char type = '3') {
  return {.name = std::move(name), .type = type, .major = major, .minor = minor};
}

std::vector<HostileLayer> Paths() {
  return {
      {"LeadingSlash", TarBuilder().File("/a", "1").Finish(), {"f a=1"}},
      {"DotSlash", TarBuilder().File("./a", "1").Finish(), {"f a=1"}},
      {"DoubleSlashes", TarBuilder().File("d//a", "1").Finish(), {"d(implicit) d", "f d/a=1"}},
      {"DotInside", TarBuilder().File("d/./a", "1").Finish(), {"d(implicit) d", "f d/a=1"}},
      {"DotDotOutOfTheRoot",
       TarBuilder().File("../../etc/passwd", "1").Finish(),
       {"d(implicit) etc", "f etc/passwd=1"}},
      {"DotDotIsLexical",
       TarBuilder().Symlink("l", "/x/y").File("l/../a", "1").Finish(),
       {"f a=1", "l l->/x/y"}},
      {"AbsoluteDotDot", TarBuilder().File("/../../a", "1").Finish(), {"f a=1"}},
      {"EmptyName",
       TarBuilder().File("", "gone").File("a", "1").Finish(),
       {"f a=1"},
       {},
       Code::kInvalid,
       {"ignored"}},
      {"DotAsFile",
       TarBuilder().File(".", "gone").File("a", "1").Finish(),
       {"f a=1"},
       {},
       Code::kInvalid,
       {"'.'"}},
      {"DotAsSymlink",
       TarBuilder().Symlink("./", "/etc").File("a", "1").Finish(),
       {"f a=1"},
       {},
       Code::kInvalid,
       {"ignored"}},
      {"DotAsHardlink",
       TarBuilder().File("a", "1").Hardlink(".", "a").Finish(),
       {"f a=1"},
       {},
       Code::kInvalid,
       {"ignored"}},
      {"RootFolder", TarBuilder().Folder("./").File("a", "1").Finish(), {"f a=1"}},
      {"NameThatIsNotUtf8", TarBuilder().File("\xff\xfe", "1").Finish(), {"f \xff\xfe=1"}},
      {"NameWithNewline", TarBuilder().File("a\nb", "1").Finish(), {"f a\nb=1"}},
      {"NameOf255Bytes",
       TarBuilder().Add({.pax = {{"path", Long(255)}}}).Finish(),
       {"f " + Long(255) + "="}},
      {"NameOf256Bytes",
       TarBuilder().Add({.pax = {{"path", Long(256)}}}).Finish(),
       {},
       {"component", "256", "255"},
       Code::kLimit},
      {"PathOf4096Bytes",
       TarBuilder().Add({.type = '5', .pax = {{"path", Repeat("./", 2047) + "ab"}}}).Finish(),
       {"d ab"}},
      {"PathOf4097Bytes",
       TarBuilder().Add({.pax = {{"path", Repeat("./", 2048) + "a"}}}).Finish(),
       {},
       {"path", "4097", "4096"},
       Code::kLimit},
      {"Depth1024",
       TarBuilder().Add({.pax = {{"path", Repeat("d/", 1023) + "f"}}}).Finish(),
       {"deep"}},
      {"Depth1025",
       TarBuilder().Add({.pax = {{"path", Repeat("d/", 1024) + "f"}}}).Finish(),
       {},
       {"d/d/d", "deeper", "1024"},
       Code::kLimit},
      {"NulInPaxPath",
       TarBuilder().Add({.name = "a", .pax = {{"path", std::string("a\0b", 3)}}}).Finish(),
       {},
       {"NUL", "path"}},
      {"NulInPaxLinkpath",
       TarBuilder()
           .Add({.name = "a", .type = '2', .pax = {{"linkpath", std::string("a\0b", 3)}}})
           .Finish(),
       {},
       {"NUL", "linkpath"}},
      {"UstarPrefix",
       TarBuilder().Add({.name = "a", .data = "1", .prefix = "d/e"}).Finish(),
       {"d(implicit) d", "d(implicit) d/e", "f d/e/a=1"}},
      {"NoPrefixInGnuHeaders",
       TarBuilder()
           .Add({.name = "a", .data = "1", .magic = Magic::kGnu, .prefix = "01234567012"})
           .Finish(),
       {"f a=1"}},
      {"PrefixInGnuHeadersOfOldGo",
       TarBuilder().Add({.name = "a", .data = "1", .magic = Magic::kGnu, .prefix = "dir"}).Finish(),
       {"d(implicit) dir", "f dir/a=1"}},
  };
}

std::string Multiplier() {
  TarBuilder tar;
  tar.Folder("d");
  for (int i = 0; i < 11; ++i) {
    const std::string target = Repeat("d/../", 795) + (i == 0 ? "d" : "l" + std::to_string(i - 1));
    tar.Add({.name = "l" + std::to_string(i), .type = '2', .pax = {{"linkpath", target}}});
  }
  return tar.File("l10/f", "1").Finish();
}

std::vector<HostileLayer> Symlinks() {
  return {
      {"ParentIsLink",
       TarBuilder().Folder("real").Symlink("l", "real").File("l/a", "1").Finish(),
       {"l l->real", "d real", "f real/a=1"}},
      {"ParentIsAbsoluteLink",
       TarBuilder().Folder("real").Symlink("l", "/real").File("l/a", "1").Finish(),
       {"l l->/real", "d real", "f real/a=1"}},
      {"ParentIsLinkOutOfTheRoot",
       TarBuilder().Symlink("l", "../../../etc").File("l/a", "1").Finish(),
       {"d(implicit) etc", "f etc/a=1", "l l->../../../etc"}},
      {"ParentIsDanglingLink",
       TarBuilder().Symlink("l", "x/y").File("l/a", "1").Finish(),
       {"l l->x/y", "d(implicit) x", "d(implicit) x/y", "f x/y/a=1"}},
      {"LinkIntoLink",
       TarBuilder().Symlink("a", "b").Symlink("b", "c").File("a/f", "1").Finish(),
       {"l a->b", "l b->c", "d(implicit) c", "f c/f=1"}},
      {"LinkWithDotDot",
       TarBuilder().Folder("x/y").Symlink("x/y/l", "../z").File("x/y/l/f", "1").Finish(),
       {"d(implicit) x", "d x/y", "l x/y/l->../z", "d(implicit) x/z", "f x/z/f=1"}},
      {"LinkToRoot", TarBuilder().Symlink("l", "/").File("l/f", "1").Finish(), {"f f=1", "l l->/"}},
      {"LoopOfLinks",
       TarBuilder().Symlink("a", "b").Symlink("b", "a").File("a/f", "1").Finish(),
       {},
       {"'a/f'", "symbolic links"}},
      {"LinkToItself",
       TarBuilder().Symlink("a", "a").File("a/f", "1").Finish(),
       {},
       {"'a/f'", "symbolic links"}},
      // Eleven links, each with 1,591 components.
      {"LinksThatMultiplySteps", Multiplier(), {}, {"'l10/f'", "symbolic links"}},
      {"LoopThatIsNotFollowed", TarBuilder().Symlink("a", "a").Finish(), {"l a->a"}},
      {"LinkToFileAsParent",
       TarBuilder().File("f", "1").Symlink("l", "f").File("l/x", "2").Finish(),
       {},
       {"'l/x'", "'f'", "no directory"}},
      {"FolderOverLink",
       TarBuilder().Folder("r").Symlink("l", "r").Folder("l").File("l/a", "1").Finish(),
       {"d(replaces) l", "f l/a=1", "d r"}},
      {"FileOverLink",
       TarBuilder().Folder("r").Symlink("l", "r").File("l", "1").Finish(),
       {"f l=1", "d r"}},
      {"LinkOverFolder", TarBuilder().File("d/a", "1").Symlink("d", "e").Finish(), {"l d->e"}},
      {"LinkOfALaterEntryIsNotFollowed",
       TarBuilder().File("l/a", "1").Symlink("m", "l").Finish(),
       {"d(implicit) l", "f l/a=1", "l m->l"}},
      {"WhiteoutThroughLink",
       TarBuilder().Symlink("l", "d").File("l/.wh.x").Finish(),
       {"d(implicit) d", "w d/x", "l l->d"}},
      {"EmptyTarget", TarBuilder().Symlink("l", "").Finish(), {}, {"'l'", "without a target"}},
      {"TargetOf4095Bytes",
       TarBuilder().Add({.name = "l", .type = '2', .pax = {{"linkpath", Long(4095)}}}).Finish(),
       {"l l->" + Long(4095)}},
      {"TargetOf4096Bytes",
       TarBuilder().Add({.name = "l", .type = '2', .pax = {{"linkpath", Long(4096)}}}).Finish(),
       {},
       {"'l'", "target", "4096"},
       Code::kLimit},
  };
}

std::vector<HostileLayer> SamePathTwice() {
  return {
      {"LastFileWins", TarBuilder().File("a", "1").File("a", "22").Finish(), {"f a=22"}},
      {"LastWinsUnderOtherSpelling",
       TarBuilder().File("a", "1").File("./x/../a", "22").Finish(),
       {"f a=22"}},
      {"FolderOverFolderKeepsChildren",
       TarBuilder().Folder("d").File("d/a", "1").Folder("d").Finish(),
       {"d d", "f d/a=1"}},
      {"FolderEntryAfterItsChildren",
       TarBuilder().File("d/a", "1").Folder("d/").Finish(),
       {"d d", "f d/a=1"}},
      {"FileOverFolder", TarBuilder().File("d/e/a", "1").File("d", "2").Finish(), {"f d=2"}},
      {"FolderOverFile",
       TarBuilder().File("d", "2").Folder("d").File("d/a", "1").Finish(),
       {"d(replaces) d", "f d/a=1"}},
      {"FolderFileFolder",
       TarBuilder().File("d/a", "1").File("d", "2").Folder("d").Finish(),
       {"d(replaces) d"}},
      {"FolderOverLinkToLowerLayer",
       TarBuilder().Hardlink("d", "x").Folder("d").Finish(),
       {"d(replaces) d"}},
      {"FolderOverFileAgain",
       TarBuilder().File("d", "2").Folder("d").File("d/a", "1").Folder("d").Finish(),
       {"d(replaces) d", "f d/a=1"}},
      {"FileOverFolderOverFile",
       TarBuilder().File("d", "2").Folder("d").File("d", "3").Finish(),
       {"f d=3"}},
      {"LinkIntoFolderOverFile",
       TarBuilder().File("d", "2").Folder("d").Hardlink("b", "d/old").Finish(),
       {},
       {"'b'", "deletes"}},
      {"FileAsParent",
       TarBuilder().File("f", "1").File("f/a", "2").Finish(),
       {},
       {"'f/a'", "'f'", "no directory"}},
      {"DeviceAsParent",
       TarBuilder().Add(Device("n", 1, 3)).File("n/a", "2").Finish(),
       {},
       {"'n/a'", "no directory"}},
      {"FileAsParentOfWhiteout",
       TarBuilder().File("f", "1").File("f/.wh.a").File("f/.wh..wh..opq").Finish(),
       {"f f=1"}},
      {"WhiteoutBelowWhatBecomesAFile",
       TarBuilder().File("f/.wh.a").File("f", "1").Finish(),
       {"f f=1"}},
      {"FifoOverFile",
       TarBuilder().File("a", "1").Add({.name = "a", .type = '6'}).Finish(),
       {"p a"}},
  };
}

std::vector<HostileLayer> Hardlinks() {
  return {
      {"LinkToFile", TarBuilder().File("a", "1").Hardlink("b", "a").Finish(), {"f a=1", "= b a"}},
      {"LinkToLink",
       TarBuilder().File("a", "1").Hardlink("b", "a").Hardlink("c", "b").Finish(),
       {"f a=1", "= b a", "= c a"}},
      {"AbsoluteTarget",
       TarBuilder().File("a", "1").Hardlink("b", "/a").Finish(),
       {"f a=1", "= b a"}},
      {"TargetOutOfTheRoot",
       TarBuilder().File("etc/a", "1").Hardlink("b", "../../etc/a").Finish(),
       {"f b=1", "d(implicit) etc", "= etc/a b"}},
      {"LinkToSymlinkLinksTheLink",
       TarBuilder().Symlink("l", "/etc/passwd").Hardlink("b", "l").Finish(),
       {"l b->/etc/passwd", "= l b"}},
      {"LinkToDevice",
       TarBuilder().Add(Device("n", 1, 3)).Hardlink("o", "n").Finish(),
       {"c n 1:3", "= o n"}},
      {"TargetReplacedLaterSplits",
       TarBuilder().File("a", "1").Hardlink("b", "a").File("a", "2").Finish(),
       {"f a=2", "f b=1"}},
      {"TargetInLowerLayer", TarBuilder().Hardlink("b", "usr/./x").Finish(), {"> b usr/x"}},
      {"TargetLaterInTheLayer",
       TarBuilder().Hardlink("b", "a").File("a", "1").Finish(),
       {"f a=1", "> b a"}},
      {"TargetIsLinkToLowerLayer",
       TarBuilder().Hardlink("b", "x").Hardlink("c", "b").Finish(),
       {"> b x", "> c x"}},
      {"TargetThroughSymlink",
       TarBuilder().File("d/a", "1").Symlink("l", "d").Hardlink("b", "l/a").Finish(),
       {"f b=1", "d(implicit) d", "= d/a b", "l l->d"}},
      {"LowerTargetThroughSymlink",
       TarBuilder().Symlink("l", "/usr/lib").Hardlink("b", "l/x/../a").Finish(),
       {"> b usr/lib/a", "l l->/usr/lib"}},
      {"LinkToItself", TarBuilder().Hardlink("a", "a").Finish(), {}, {"'a'", "itself"}},
      {"LinkToItselfOverFile",
       TarBuilder().File("a", "1").Hardlink("a", "./a").Finish(),
       {},
       {"'a'", "itself"}},
      {"LinkToFolder",
       TarBuilder().Folder("d").Hardlink("b", "d").Finish(),
       {},
       {"'b'", "'d'", "directory"}},
      {"LinkToImplicitFolder",
       TarBuilder().File("d/a").Hardlink("b", "d").Finish(),
       {},
       {"'b'", "directory"}},
      {"LinkToRoot", TarBuilder().Hardlink("b", "/").Finish(), {}, {"'b'", "root"}},
      {"LinkWithoutTarget", TarBuilder().Hardlink("b", "").Finish(), {}, {"'b'", "root"}},
      {"LinkThatReplacesItsTarget",
       TarBuilder().File("d/a", "1").Hardlink("d", "d/a").Finish(),
       {},
       {"'d'", "replaces"}},
      {"LinkBelowItself", TarBuilder().Hardlink("d", "d/a").Finish(), {}, {"'d'", "replaces"}},
      {"TargetBelowFile",
       TarBuilder().File("f", "1").Hardlink("b", "f/x").Finish(),
       {},
       {"'b'", "'f'"}},
      {"TargetDeletedByTheLayer",
       TarBuilder().File(".wh.a").Hardlink("b", "a").Finish(),
       {},
       {"'b'", "deletes"}},
      {"TargetInOpaqueFolder",
       TarBuilder().File("d/.wh..wh..opq").Hardlink("b", "d/x").Finish(),
       {},
       {"'b'", "deletes"}},
      {"LinkWithData",
       TarBuilder()
           .File("a", "1")
           .Add({.name = "b", .type = '1', .data = "xx", .link = "a"})
           .Finish(),
       {},
       {"'b'", "carries 2 bytes"}},
      {"LinkOverFolder",
       TarBuilder().File("a", "1").File("d/x", "2").Hardlink("d", "a").Finish(),
       {"f a=1", "= d a"}},
      {"LinkAsParent",
       TarBuilder().Hardlink("b", "x").File("b/y").Finish(),
       {},
       {"'b/y'", "no directory"}},
  };
}

std::vector<HostileLayer> Whiteouts() {
  const TarEntrySpec opaque{.name = "d/.wh..wh..opq"};
  return {
      {"Whiteout", TarBuilder().File("d/.wh.a").Finish(), {"d(implicit) d", "w d/a"}},
      {"WhiteoutOfHiddenName", TarBuilder().File(".wh..a").Finish(), {"w .a"}},
      {"WhiteoutAfterContent", TarBuilder().File("a", "1").File(".wh.a").Finish(), {"f a=1"}},
      {"WhiteoutBeforeContent", TarBuilder().File(".wh.a").File("a", "1").Finish(), {"f a=1"}},
      {"WhiteoutAndFolder",
       TarBuilder().File(".wh.d").File("d/a", "1").Folder("d").Finish(),
       {"d(replaces) d", "f d/a=1"}},
      {"FolderAndWhiteout",
       TarBuilder().Folder("d").File("d/a", "1").File(".wh.d").Finish(),
       {"d(replaces) d", "f d/a=1"}},
      {"WhiteoutAndImplicitFolder",
       TarBuilder().File("d/a", "1").File(".wh.d").Finish(),
       {"d(implicit,replaces) d", "f d/a=1"}},
      {"WhiteoutIsFolder", TarBuilder().Folder(".wh.a/").Finish(), {"w a"}},
      {"WhiteoutIsSymlink", TarBuilder().Symlink(".wh.a", "x").Finish(), {"w a"}},
      {"WhiteoutIsHardlink",
       TarBuilder().File(".wh.a").Hardlink(".wh.b", ".wh.a").Finish(),
       {"w a", "w b"}},
      {"WhiteoutHasContent",
       TarBuilder().File(".wh.a", "x").File("b", "1").Finish(),
       {"w a", "f b=1"}},
      {"WhiteoutIsDevice", TarBuilder().Add(Device(".wh.a", 1, 3)).Finish(), {"w a"}},
      {"WhiteoutTwice", TarBuilder().File(".wh.a").File(".wh.a").Finish(), {"w a"}},
      {"WhiteoutOfNothing", TarBuilder().File(".wh.").Finish(), {}, {"'.wh.'", "whiteout"}},
      {"WhiteoutOfDot", TarBuilder().File(".wh..").Finish(), {}, {"'.wh..'", "whiteout"}},
      {"WhiteoutOfDotDot", TarBuilder().File("d/.wh...").Finish(), {}, {"'d/.wh...'", "whiteout"}},
      {"OpaqueFirst",
       TarBuilder().Add(opaque).File("d/a", "1").Folder("d").Finish(),
       {"d(opaque) d", "f d/a=1"}},
      {"OpaqueLast",
       TarBuilder().Folder("d").File("d/a", "1").Add(opaque).Finish(),
       {"d(opaque) d", "f d/a=1"}},
      {"OpaqueInImplicitFolder", TarBuilder().Add(opaque).Finish(), {"d(implicit,opaque) d"}},
      {"OpaqueRoot",
       TarBuilder().File(".wh..wh..opq").File("a", "1").Finish(),
       {"d(opaque) /", "f a=1"}},
      {"OpaqueFolderReplacedByFile",
       TarBuilder().Add(opaque).File("d", "1").Folder("d").Finish(),
       {"d(replaces) d"}},
      {"AufsNamesStayFiles",
       TarBuilder().File(".wh..wh.plnk", "1").File(".wh..wh.aufs").Finish(),
       {"f .wh..wh.aufs=", "f .wh..wh.plnk=1"}},
      {"Device00",
       TarBuilder().Add(Device("dev/x", 0, 0)).Finish(),
       {"d(implicit) dev", "w dev/x"},
       {},
       Code::kInvalid,
       {"device 0/0", "'dev/x'"}},
      {"Device00AfterFile", TarBuilder().File("a", "1").Add(Device("a", 0, 0)).Finish(), {"w a"}},
      {"Device00BeforeFile",
       TarBuilder().Add(Device("a", 0, 0)).File("a", "1").Finish(),
       {"f a=1"}},
      {"LinkToDevice00IsAWhiteout",
       TarBuilder()
           .Add(Device("a", 0, 0))
           .File("d/x", "1")
           .Hardlink("d/b", "a")
           .Hardlink("c", "d/b")
           .Hardlink("d/x", "c")
           .Finish(),
       {"w a", "w c", "d(implicit) d", "w d/b", "w d/x"},
       {},
       Code::kInvalid,
       {"device 0/0", "'d/b'", "'c'", "'d/x'"}},
      {"LinkToDevice00ThatBecameAFile",
       TarBuilder().Add(Device("a", 0, 0)).File("a", "1").Hardlink("b", "a").Finish(),
       {"f a=1", "= b a"}},
      {"LinkToDevice00ThatBecameAFolder",
       TarBuilder().Add(Device("a", 0, 0)).File("a/x", "1").Hardlink("b", "a").Finish(),
       {},
       {"'b'", "'a'", "a directory"}},
      {"BlockDevice00IsADevice", TarBuilder().Add(Device("a", 0, 0, '4')).Finish(), {"b a 0:0"}},
  };
}

std::vector<HostileLayer> Headers() {
  const auto put = [](size_t at, std::string text) {
    return [at, text](char* block) { text.copy(block + at, text.size()); };
  };
  return {
      {"EmptyArchive", TarBuilder().Finish(), {}},
      {"NoEndBlocks", TarBuilder().File("a", "1").bytes(), {"f a=1"}},
      {"OneEndBlock", TarBuilder().File("a", "1").ZeroBlocks(1).bytes(), {"f a=1"}},
      {"LastPaddingMissing", TarBuilder().File("a", "1").bytes().substr(0, 513), {"f a=1"}},
      {"DataAfterTwoEndBlocks",
       TarBuilder().File("a", "1").ZeroBlocks(2).File("b", "2").Finish(),
       {"f a=1"}},
      {"GarbageAfterTwoEndBlocks",
       TarBuilder().File("a", "1").ZeroBlocks(2).AddRaw(Long(700)).bytes(),
       {"f a=1"}},
      {"DataAfterOneEndBlock",
       TarBuilder().File("a", "1").ZeroBlocks(1).File("b", "2").Finish(),
       {},
       {"after entry 'a'", "zeros"}},
      {"BadChecksum",
       TarBuilder().File("a", "1").Add({.name = "b", .bad_checksum = true}).Finish(),
       {},
       {"after entry 'a'", "checksum", "1024"}},
      {"GarbageFromTheStart", Long(5000), {}, {"byte 0", "checksum"}},
      {"NegativeSize", TarBuilder().Add({.name = "a", .size = -1}).Finish(), {}, {"'a'", "-1"}},
      {"GarbageSize",
       TarBuilder().Add({.name = "a", .patch = put(124, "12x4")}).Finish(),
       {},
       {"size", "12x4"}},
      {"SizeBeyond63Bits",
       TarBuilder()
           .Add({.name = "a", .patch = put(124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff")})
           .Finish(),
       {},
       {"size"}},
      {"GarbageUid",
       TarBuilder().Add({.name = "a", .patch = put(108, "zz")}).Finish(),
       {},
       {"uid"}},
      {"FolderWithData",
       TarBuilder().Add({.name = "d", .type = '5', .data = "x"}).Finish(),
       {},
       {"'d'", "carries 1 bytes"}},
      {"SymlinkWithData",
       TarBuilder().Add({.name = "l", .type = '2', .data = "x", .link = "t"}).Finish(),
       {},
       {"'l'", "carries"}},
      {"DeviceWithData",
       TarBuilder().Add({.name = "n", .type = '3', .data = "x", .major = 1}).Finish(),
       {},
       {"'n'", "carries"}},
      {"OldTypeIsAFile",
       TarBuilder().Add({.name = "a", .type = '\0', .data = "1", .magic = Magic::kV7}).Finish(),
       {"f a=1"}},
      {"OldTypeWithSlashIsAFolder",
       TarBuilder().Add({.name = "d/", .type = '\0', .magic = Magic::kV7}).Finish(),
       {"d d"}},
      {"FileWithSlashIsAFile", TarBuilder().File("a/", "1").Finish(), {"f a=1"}},
      {"ContiguousIsAFile",
       TarBuilder().Add({.name = "a", .type = '7', .data = "1"}).Finish(),
       {"f a=1"}},
      {"UnknownType",
       TarBuilder().Add({.name = "a", .type = 'Z'}).Finish(),
       {},
       {"'a'", "unknown type", "'Z'"}},
      {"VolumeLabel",
       TarBuilder().Add({.name = "vol", .type = 'V'}).Finish(),
       {},
       {"'vol'", "volume label"}},
      {"MultiVolume",
       TarBuilder().Add({.name = "a", .type = 'M'}).Finish(),
       {},
       {"'a'", "another volume"}},
      {"DumpDirectory",
       TarBuilder().Add({.name = "d", .type = 'D'}).Finish(),
       {},
       {"'d'", "incremental"}},
      {"DeviceNumberTooLarge",
       TarBuilder().Add(Device("n", 4096, 0)).Finish(),
       {},
       {"'n'", "4096:0"}},
      {"DeviceNumberNegative", TarBuilder().Add(Device("n", 1, -1)).Finish(), {}, {"'n'", "1:-1"}},
      {"LargestDeviceNumber",
       TarBuilder().Add(Device("n", 4095, 1048575)).Finish(),
       {"c n 4095:1048575"}},
      {"TruncatedHeader",
       TarBuilder().File("a", "1").bytes() + std::string(100, 'x'),
       {},
       {"truncated", "header"}},
      {"TruncatedData",
       TarBuilder().File("a", Long(600)).bytes().substr(0, 1000),
       {},
       {"'a'", "truncated"}},
      {"SizeBeyondTheArchive",
       TarBuilder().Add({.name = "a", .size = int64_t{1} << 62}).Finish(),
       {},
       {"'a'", "16.0 TiB"},
       Code::kLimit},
      {"OwnersOutOfRange",
       TarBuilder().Add({.name = "a", .uid = -1, .gid = int64_t{1} << 40}).Finish(),
       {"f a="},
       {},
       Code::kInvalid,
       {"uid -1", "gid 1099511627776"}},
  };
}

std::vector<HostileLayer> ExtendedHeaders() {
  return {
      {"PaxPathWins",
       TarBuilder().Add({.name = "a", .data = "1", .pax = {{"path", "b"}}}).Finish(),
       {"f b=1"}},
      {"GnuNameWinsOverPax",
       TarBuilder()
           .Add({.name = "a", .data = "1", .pax = {{"path", "b"}}, .gnu_name = "c"})
           .Finish(),
       {"f c=1"}},
      {"GnuNameWinsAlsoBeforePax",
       TarBuilder()
           .Add({.name = "././@LongLink", .type = 'L', .data = "c"})
           .Add({.name = "a", .data = "1", .pax = {{"path", "b"}}})
           .Finish(),
       {"f c=1"}},
      {"GnuLinkWinsOverPax",
       TarBuilder()
           .Add(
               {.name = "a", .type = '2', .link = "1", .pax = {{"linkpath", "2"}}, .gnu_link = "3"})
           .Finish(),
       {"l a->3"}},
      {"LastPaxHeaderWinsWhole",
       TarBuilder()
           .Pax('x', {{"path", "b"}, {"uid", "7"}})
           .Pax('x', {{"uid", "8"}})
           .File("a", "1")
           .Finish(),
       {"f a=1"}},
      {"LastRecordWins",
       TarBuilder().Add({.name = "a", .pax = {{"path", "b"}, {"path", "c"}}}).Finish(),
       {"f c="}},
      {"EmptyRecordKeepsTheHeader",
       TarBuilder().Add({.name = "a", .pax = {{"path", ""}}}).Finish(),
       {"f a="}},
      {"PaxDoesNotReachFurther",
       TarBuilder().Add({.name = "a", .pax = {{"path", "b"}}}).File("c").Finish(),
       {"f b=", "f c="}},
      {"PaxSizeWins",
       TarBuilder()
           .Add({.name = "a", .data = "12345", .size = 0, .pax = {{"size", "5"}}})
           .File("b", "2")
           .Finish(),
       {"f a=12345", "f b=2"}},
      {"PaxSizeNegative",
       TarBuilder().Add({.name = "a", .pax = {{"size", "-5"}}}).Finish(),
       {},
       {"'a'", "-5"}},
      {"PaxSizeGarbage",
       TarBuilder().Add({.name = "a", .pax = {{"size", "5k"}}}).Finish(),
       {},
       {"'a'", "5k"}},
      {"PaxSizeOnFolder",
       TarBuilder().Add({.name = "d", .type = '5', .pax = {{"size", "5"}}}).Finish(),
       {},
       {"'d'", "carries 5"}},
      {"PaxMtimeGarbage",
       TarBuilder().Add({.name = "a", .pax = {{"mtime", "noon"}}}).Finish(),
       {},
       {"'a'", "mtime", "noon"}},
      {"PaxUidGarbage",
       TarBuilder().Add({.name = "a", .pax = {{"uid", "root"}}}).Finish(),
       {},
       {"'a'", "uid"}},
      {"GlobalHeaderAppliesNothing",
       TarBuilder().Pax('g', {{"path", "evil"}, {"uid", "7"}}).File("a", "1").Finish(),
       {"f a=1"}},
      {"GlobalHeaderForgetsWhatStoodBefore",
       TarBuilder().Pax('x', {{"path", "b"}}).Pax('g', {{"comment", "c"}}).File("a", "1").Finish(),
       {"f a=1"}},
      {"GlobalHeaderIsParsed",
       TarBuilder().RawPax('g', "nonsense").File("a").Finish(),
       {},
       {"PAX"}},
      {"PaxRecordTooLong",
       TarBuilder().RawPax('x', "99 path=b\n").File("a").Finish(),
       {},
       {"PAX", "length"}},
      {"PaxRecordWithoutNewline",
       TarBuilder().RawPax('x', "9 path=bc").File("a").Finish(),
       {},
       {"PAX"}},
      {"PaxRecordWithoutKey",
       TarBuilder().RawPax('x', "6 =b1\n").File("a").Finish(),
       {},
       {"PAX", "key"}},
      {"PaxRecordOfLengthZero",
       TarBuilder().RawPax('x', "0 path=b\n").File("a").Finish(),
       {},
       {"PAX", "length"}},
      {"PaxHeaderAtTheEnd",
       TarBuilder().File("a").Pax('x', {{"path", "b"}}).Finish(),
       {"f a="},
       {},
       Code::kInvalid,
       {"no entry follows"}},
      {"PaxHeaderOverTheLimit",
       TarBuilder().RawPax('x', std::string((1 << 20) + 1, 'x')).File("a").Finish(),
       {},
       {"1048577", "1048576"},
       Code::kLimit},
      {"LongNameOverTheLimit",
       TarBuilder().Add({.type = 'L', .size = int64_t{1} << 60}).Finish(),
       {},
       {"limit", "1048576"},
       Code::kLimit},
      {"LongNameTruncated",
       TarBuilder().Add({.type = 'L', .size = 1000}).bytes(),
       {},
       {"truncated"}},
      {"LongNameEndsAtNul",
       TarBuilder().Add({.name = "a", .gnu_name = std::string("b\0c", 3)}).Finish(),
       {"f b="}},
      {"EmptyLongNameKeepsTheHeader",
       TarBuilder().Add({.name = "a", .gnu_name = ""}).Finish(),
       {"f a="}},
      {"XattrOverTheLimit",
       TarBuilder().Add({.name = "a", .pax = {{"SCHILY.xattr.user.x", Long(65537)}}}).Finish(),
       {},
       {"'a'", "'user.x'", "65537", "65536"},
       Code::kLimit},
      {"XattrThatCannotBeDecoded",
       TarBuilder().Add({.name = "a", .pax = {{"LIBARCHIVE.xattr.user.x", "?"}}}).Finish(),
       {"f a="},
       {},
       Code::kInvalid,
       {"user.x", "decoded"}},
  };
}

std::vector<HostileLayer> SparseFiles() {
  const auto v1 = [](std::string map, std::string data, std::string size) {
    map.resize((map.size() + 511) / 512 * 512);
    return TarEntrySpec{.name = "GNUSparseFile.0/a",
                        .data = map + data,
                        .pax = {{"GNU.sparse.major", "1"},
                                {"GNU.sparse.minor", "0"},
                                {"GNU.sparse.name", "a"},
                                {"GNU.sparse.realsize", std::move(size)}}};
  };
  const auto v01 = [](std::string map, std::string count, std::string data, std::string size) {
    return TarEntrySpec{.name = "a",
                        .data = std::move(data),
                        .pax = {{"GNU.sparse.size", std::move(size)},
                                {"GNU.sparse.numblocks", std::move(count)},
                                {"GNU.sparse.map", std::move(map)}}};
  };
  const auto old = [](int64_t offset, int64_t length, int64_t size, std::string data) {
    return TarEntrySpec{.name = "a",
                        .type = 'S',
                        .data = std::move(data),
                        .magic = Magic::kGnu,
                        .patch = [=](char* block) {
                          PutTarNumber(block + 386, 12, offset);
                          PutTarNumber(block + 398, 12, length);
                          PutTarNumber(block + 483, 12, size);
                        }};
  };
  const std::string zeros(3, '\0');
  return {
      {"Sparse10",
       TarBuilder().Add(v1("1\n3\n2\n", "xy", "6")).File("b", "1").Finish(),
       {"f a=" + zeros + "xy" + std::string(1, '\0'), "f b=1"}},
      {"Sparse10WithoutData", TarBuilder().Add(v1("0\n", "", "3")).Finish(), {"f a=" + zeros}},
      {"Sparse10RegionWithoutLength",
       TarBuilder().Add(v1("2\n1\n1\n3\n0\n", "x", "3")).Finish(),
       {"f a=" + std::string("\0x\0", 3)}},
      {"Sparse01", TarBuilder().Add(v01("3,2", "1", "xy", "5")).Finish(), {"f a=" + zeros + "xy"}},
      {"Sparse00",
       TarBuilder()
           .Add({.name = "a",
                 .data = "xy",
                 .pax = {{"GNU.sparse.size", "5"},
                         {"GNU.sparse.numblocks", "1"},
                         {"GNU.sparse.offset", "3"},
                         {"GNU.sparse.numbytes", "2"}}})
           .Finish(),
       {"f a=" + zeros + "xy"}},
      {"SparseOldGnu", TarBuilder().Add(old(3, 2, 5, "xy")).Finish(), {"f a=" + zeros + "xy"}},
      {"SparseOldOutsideGnu",
       TarBuilder().Add({.name = "a", .type = 'S'}).Finish(),
       {},
       {"'a'", "GNU"}},
      {"SparseOldBeyondTheSize",
       TarBuilder().Add(old(4, 2, 5, "xy")).Finish(),
       {},
       {"'a'", "beyond the size"}},
      {"SparseOldNegative", TarBuilder().Add(old(0, 2, -5, "xy")).Finish(), {}, {"'a'", "number"}},
      {"SparseOldExtensionTruncated",
       TarBuilder()
           .Add({.name = "a",
                 .type = 'S',
                 .magic = Magic::kGnu,
                 .patch = [](char* block) { block[482] = 1; }})
           .bytes(),
       {},
       {"'a'", "truncated"}},
      {"Sparse10Overlap",
       TarBuilder().Add(v1("2\n0\n2\n1\n1\n", "xyz", "6")).Finish(),
       {},
       {"'a'", "overlap"}},
      {"Sparse10OutOfOrder",
       TarBuilder().Add(v1("2\n4\n1\n0\n1\n", "xy", "6")).Finish(),
       {},
       {"'a'", "order"}},
      {"Sparse10BeyondTheSize",
       TarBuilder().Add(v1("1\n5\n2\n", "xy", "6")).Finish(),
       {},
       {"'a'", "beyond"}},
      {"Sparse10Overflow",
       TarBuilder().Add(v1("1\n9223372036854775807\n2\n", "xy", "6")).Finish(),
       {},
       {"'a'", "beyond"}},
      {"Sparse10TooLittleData",
       TarBuilder().Add(v1("1\n0\n3\n", "xy", "6")).Finish(),
       {},
       {"'a'", "3", "2"}},
      {"Sparse10TooMuchData",
       TarBuilder().Add(v1("1\n0\n1\n", "xy", "6")).Finish(),
       {},
       {"'a'", "1", "2"}},
      {"Sparse10NotANumber",
       TarBuilder().Add(v1("1\nx\n3\n", "xy", "6")).Finish(),
       {},
       {"'a'", "number"}},
      {"Sparse10EndlessLine",
       TarBuilder().Add(v1(std::string(600, '1'), "xy", "6")).Finish(),
       {},
       {"'a'", "line"}},
      {"Sparse10MapWithoutEnd",
       TarBuilder().Add(v1("9\n1\n", "", "6")).Finish(),
       {},
       {"'a'", "map"}},
      {"Sparse10NoMap", TarBuilder().Add(v1("", "", "6")).Finish(), {}, {"'a'", "missing"}},
      {"Sparse10TooManyRegions",
       TarBuilder().Add(v1("1048577\n", "", "6")).Finish(),
       {},
       {"'a'", "1048577", "1048576"},
       Code::kLimit},
      {"Sparse10NegativeSize",
       TarBuilder().Add(v1("1\n0\n2\n", "xy", "-6")).Finish(),
       {},
       {"'a'", "-6"}},
      {"Sparse01CountDiffers",
       TarBuilder().Add(v01("3,2", "2", "xy", "5")).Finish(),
       {},
       {"'a'", "2 regions"}},
      {"Sparse01OddMap",
       TarBuilder().Add(v01("3,2,1", "1", "xy", "5")).Finish(),
       {},
       {"'a'", "3 numbers"}},
      {"Sparse00OutOfTurn",
       TarBuilder().Add({.name = "a", .pax = {{"GNU.sparse.numbytes", "2"}}}).Finish(),
       {},
       {"turn"}},
      {"SparseFolder",
       TarBuilder()
           .Add({.name = "d",
                 .type = '5',
                 .pax = {{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}}})
           .Finish(),
       {},
       {"'d'", "sparse"}},
      {"SparseOfUnknownVersionIsAFile",
       TarBuilder()
           .Add({.name = "a",
                 .data = "1",
                 .pax = {{"GNU.sparse.major", "2"}, {"GNU.sparse.minor", "0"}}})
           .Finish(),
       {"f a=1"},
       {},
       Code::kInvalid,
       {"2.0"}},
      {"SparseBeyond16TiB",
       TarBuilder()
           .Add(v01("0,1,9000000000000000000,1", "2", "xy", "9223372036854775807"))
           .Finish(),
       {},
       {"'a'", "16.0 TiB"},
       Code::kLimit},
  };
}

class HostileLayerTest : public ::testing::TestWithParam<HostileLayer> {};

TEST_P(HostileLayerTest, HasThePromisedOutcome) {
  const HostileLayer& layer = GetParam();
  IndexLab lab;
  const Result<IndexedLayer> indexed = lab.Index(layer.tar);
  if (!layer.refusal.empty()) {
    ASSERT_FALSE(indexed.has_value()) << ::testing::PrintToString(TreeOf(*indexed));
    EXPECT_EQ(CodeName(indexed.error().code), CodeName(layer.code)) << indexed.error().message;
    EXPECT_THAT(indexed.error().message, HasSubstr("layer 0: "));
    for (const std::string& part : layer.refusal)
      EXPECT_THAT(indexed.error().message, HasSubstr(part));
    EXPECT_TRUE(lab.Files().empty());
    return;
  }
  ASSERT_TRUE(indexed.has_value()) << indexed.error().message;
  std::string warnings;
  for (const std::string& warning : indexed->index->Warnings()) warnings += warning + "\n";
  for (const std::string& part : layer.warnings) EXPECT_THAT(warnings, HasSubstr(part));
  ExpectChunksFit(*indexed);
  if (layer.name == std::string("Depth1024")) {
    EXPECT_EQ(indexed->index->facts().entry_count, 1025u);
    return;
  }
  EXPECT_THAT(TreeOf(*indexed), ElementsAreArray(layer.tree));
}

std::string NameOf(const ::testing::TestParamInfo<HostileLayer>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Paths, HostileLayerTest, ::testing::ValuesIn(Paths()), NameOf);
INSTANTIATE_TEST_SUITE_P(Symlinks, HostileLayerTest, ::testing::ValuesIn(Symlinks()), NameOf);
INSTANTIATE_TEST_SUITE_P(SamePathTwice, HostileLayerTest, ::testing::ValuesIn(SamePathTwice()),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Hardlinks, HostileLayerTest, ::testing::ValuesIn(Hardlinks()), NameOf);
INSTANTIATE_TEST_SUITE_P(Whiteouts, HostileLayerTest, ::testing::ValuesIn(Whiteouts()), NameOf);
INSTANTIATE_TEST_SUITE_P(Headers, HostileLayerTest, ::testing::ValuesIn(Headers()), NameOf);
INSTANTIATE_TEST_SUITE_P(ExtendedHeaders, HostileLayerTest, ::testing::ValuesIn(ExtendedHeaders()),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(SparseFiles, HostileLayerTest, ::testing::ValuesIn(SparseFiles()), NameOf);

}  // namespace
}  // namespace lamina::testing
