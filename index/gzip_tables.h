#pragma once

// Checks of ISA-L's Huffman lookup tables that come from a file. ISA-L follows their entries
// without a look, so an entry is accepted only if it keeps every lookup, shift and copy inside its
// bounds. Pure functions; any thread.
//
// The entries, as igzip_inflate.c of ISA-L 2.30 writes them:
//   literal/length, short: bits 0-24 up to three symbols, 25 flag, 26-27 their number, 28-31 code
//   length; with the
//     flag, bits 0-24 are an offset into the long table and 26-31 the longest code there
//   literal/length, long: bits 0-9 symbol, 10-15 code length
//   distance, short: bits 0-4 symbol, 5-8 extra bits, 10 flag, 11-15 code length; with the flag,
//   bits 0-8 are an
//     offset into the long table and 11-15 the longest code there
//   distance, long: bits 0-4 symbol, 5-8 extra bits, 10-15 code length
// A code length of 0 marks an invalid code, which ISA-L reports.

#include <isa-l/igzip_lib.h>

#include <cstddef>

namespace lamina {

// The number of entries of the long tables that the short ones refer to; beyond the table's size
// when damaged.
size_t LongEntriesInUse(const inflate_huff_code_large& table);
size_t LongEntriesInUse(const inflate_huff_code_small& table);

bool IsValidTable(const inflate_huff_code_large& table);
bool IsValidTable(const inflate_huff_code_small& table);

}  // namespace lamina
