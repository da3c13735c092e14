// Bounds-checked big-endian reading and writing of wire formats. There is no other road to a packet's bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace podnic {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

inline ByteView bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// A cursor over bytes from outside. A read past the end gives nullopt and moves nothing.
class ByteReader {
 public:
  explicit ByteReader(ByteView bytes) : rest_(bytes) {}

  [[nodiscard]] std::size_t remaining() const { return rest_.size(); }
  [[nodiscard]] ByteView rest() const { return rest_; }
  std::optional<ByteView> take(std::size_t size) {
    if (size > rest_.size()) return std::nullopt;
    const ByteView taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  std::optional<std::uint8_t> u8() { return number<std::uint8_t>(); }
  std::optional<std::uint16_t> u16() { return number<std::uint16_t>(); }
  std::optional<std::uint32_t> u32() { return number<std::uint32_t>(); }

 private:
  template <typename Number>
  std::optional<Number> number() {
    const auto taken = take(sizeof(Number));
    if (!taken) return std::nullopt;
    Number value = 0;
    for (const std::uint8_t byte : *taken) value = static_cast<Number>((value << 8U) | byte);
    return value;
  }

  ByteView rest_;
};

/// Appends big-endian values to a buffer. Nothing is written to one that was moved from.
class ByteWriter {
 public:
  ByteWriter() = default;
  /// Grows without a copy up to `expected` bytes.
  explicit ByteWriter(std::size_t expected) : buffer_(expected) {}
  /// Writes into the memory of `used`, whose bytes are dropped.
  explicit ByteWriter(Bytes used) : buffer_(std::move(used)) { buffer_.resize(buffer_.capacity()); }

  void u8(std::uint8_t value) { put<1>(value); }
  void u16(std::uint16_t value) { put<2>(value); }
  void u32(std::uint32_t value) { put<4>(value); }
  void append(ByteView bytes) { std::ranges::copy(bytes, room_for(bytes.size())); }
  void zeros(std::size_t count) { std::fill_n(room_for(count), count, std::uint8_t{0}); }
  /// Drops all but the first `size` bytes.
  void cut(std::size_t size) { size_ = std::min(size, size_); }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] ByteView bytes() const { return ByteView(buffer_).first(size_); }
  [[nodiscard]] Bytes take() {
    buffer_.resize(std::exchange(size_, 0));
    return std::move(buffer_);
  }

 private:
  template <unsigned Size>
  void put(std::uint32_t value) {
    std::uint8_t* to = room_for(Size);
    for (unsigned i = 0; i < Size; ++i)
      to[i] = static_cast<std::uint8_t>((value >> (8 * (Size - 1 - i))) & 0xffU);
  }

  std::uint8_t* room_for(std::size_t more) {
    const std::size_t end = size_ + more;
    if (end > buffer_.size()) buffer_.resize(std::max(end, 2 * buffer_.size()));
    return buffer_.data() + std::exchange(size_, end);
  }

  Bytes buffer_;  ///< its first size_ bytes are written
  std::size_t size_ = 0;
};

}  // namespace podnic
