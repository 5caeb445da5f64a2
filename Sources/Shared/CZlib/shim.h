#pragma once
#include <zlib.h>

// A macro with arguments, which Swift does not import. 32 has zlib recognise gzip and its own format.
static inline int lethe_inflate_init(z_stream *stream) { return inflateInit2(stream, 15 + 32); }

// Without a header.
static inline int lethe_inflate_init_raw(z_stream *stream) { return inflateInit2(stream, -15); }

// The bits choose the format: 15 is zlib's, 16 more is gzip's, -15 is what both have in them.
static inline int lethe_deflate_init(z_stream *stream, int bits) {
  return deflateInit2(stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY);
}
