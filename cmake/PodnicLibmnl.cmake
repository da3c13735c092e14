# libmnl.a, which a program without any shared library needs: Debian has it in libmnl-dev since 13. Debian 12 has the shared
# library alone: there the archive is taken out of Debian 13's package.
set(PODNIC_LIBMNL_VERSION 1.0.5-3)
# As the signed list of Debian 13's packages has them.
set(PODNIC_LIBMNL_SHA256_amd64 7f9a7c3f470ec400171981816df189ec86b11083c3f8d391d0800ed09a87bfc3)
set(PODNIC_LIBMNL_SHA256_arm64 046ecea98bfb827fffdc9a19c3efd75b9862995e3532987a9272787e70a3a9b6)

function(podnic_without_libmnl why)
  message(FATAL_ERROR "There is no libmnl.a, and ${why}\n"
    "Name one with -DPODNIC_LIBMNL_ARCHIVE=FILE, or do without: -DPODNIC_STATIC_PLUGIN=OFF.")
endfunction()

# By Debian's own client: it knows the proxy, and what it gives has the digest that was asked for.
function(podnic_fetch_libmnl archive)
  get_filename_component(folder ${archive} DIRECTORY)
  set(apt_helper /usr/lib/apt/apt-helper)
  set(architecture "")
  if(EXISTS ${apt_helper})
    execute_process(COMMAND dpkg --print-architecture OUTPUT_VARIABLE architecture OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
  set(sha256 "${PODNIC_LIBMNL_SHA256_${architecture}}")
  if(NOT sha256)
    podnic_without_libmnl("where to get it is known for Debian on amd64 and arm64 only.")
  endif()
  set(package libmnl-dev_${PODNIC_LIBMNL_VERSION}_${architecture}.deb)
  message(STATUS "Taking libmnl.a out of Debian's ${package}")
  file(MAKE_DIRECTORY ${folder}/package)
  execute_process(
    COMMAND ${apt_helper} download-file http://deb.debian.org/debian/pool/main/libm/libmnl/${package} ${folder}/${package}
            SHA256:${sha256}
    RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(failed)
    podnic_without_libmnl("Debian's package could not be fetched:\n${said}")
  endif()
  execute_process(COMMAND dpkg-deb --extract ${folder}/${package} ${folder}/package COMMAND_ERROR_IS_FATAL ANY)
  file(GLOB_RECURSE found ${folder}/package/libmnl.a)
  if(NOT EXISTS "${found}")
    podnic_without_libmnl("Debian's ${package} has no other one than '${found}'.")
  endif()
  file(COPY_FILE ${found} ${archive}.new)
  file(RENAME ${archive}.new ${archive})
endfunction()

# Once, and again when the version above is another one.
set(podnic_own_libmnl ${PROJECT_BINARY_DIR}/libmnl/${PODNIC_LIBMNL_VERSION}/libmnl.a)
find_library(PODNIC_LIBMNL_ARCHIVE libmnl.a DOC "The archive of libmnl that a static CNI plugin is linked with")
if(NOT PODNIC_LIBMNL_ARCHIVE)
  if(NOT EXISTS ${podnic_own_libmnl})
    podnic_fetch_libmnl(${podnic_own_libmnl})
  endif()
  set(PODNIC_LIBMNL_ARCHIVE ${podnic_own_libmnl})
endif()
