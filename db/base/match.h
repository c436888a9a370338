#pragma once
// The usual helper to visit a std::variant with one lambda per alternative.

namespace tdbmesh {

template <class... Fs>
struct Match : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Match(Fs...) -> Match<Fs...>;

}  // namespace tdbmesh
