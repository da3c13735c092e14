// The names of users, hosts and protocols, for a plugin without shared libraries: there are none. The C
// library would load libraries of its own version to look for them, on a node that has another one or none at
// all.
//
// podnic asks for no name in the plugin. libcap-ng and libnl have functions that would, and are never called.
#include <grp.h>
#include <netdb.h>
#include <pwd.h>

#include <cerrno>

passwd* getpwnam(const char* /*name*/) {
  return nullptr;
}

passwd* getpwuid(uid_t /*uid*/) {
  return nullptr;
}

int initgroups(const char* /*user*/, gid_t /*group*/) {
  errno = ENOENT;
  return -1;
}

protoent* getprotobyname(const char* /*name*/) {
  return nullptr;
}

protoent* getprotobynumber(int /*number*/) {
  return nullptr;
}

int getaddrinfo(const char* /*name*/, const char* /*service*/, const addrinfo* /*wanted*/,
                addrinfo** /*found*/) {
  return EAI_NONAME;
}
