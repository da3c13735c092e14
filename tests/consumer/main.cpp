#include <podnic/attachment/attachment.h>
#include <iostream>

int main(int, char** argv) {
  const podnic::Place pod{.netns = argv[1], .state_dir = argv[2]};
  podnic::bindings::Request request;
  request.ports = {*podnic::bindings::PortForward::parse("80/tcp")};
  const podnic::Attachment nic = podnic::attach(request, pod);
  std::cout << "wired: start the VM on " << nic.record.guest.tap << '\n';
  podnic::detach({}, pod);
}
