// Reads a result file with simdjson's on-demand API, and prints the seconds. It reads the same members as the scan.
#include <chrono>
#include <cstdio>
#include <simdjson.h>

int main(int, char **arguments) {
  auto start = std::chrono::steady_clock::now();
  simdjson::padded_string bytes = simdjson::padded_string::load(arguments[1]);
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document_stream lines = parser.iterate_many(bytes, 1 << 20);
  uint64_t sum = 0;
  size_t events = 0;
  for (auto line : lines) {
    sum += std::uint64_t(line["id"].get_uint64_in_string());
    for (const char *name : {"action", "created_at", "redacted_at", "reason"}) {
      sum += std::string_view(line[name]).size();
    }
    events++;
  }
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%.6f\n", seconds.count());
  std::fprintf(stderr, "%zu %llu\n", events, (unsigned long long)sum);
}
