# What `cmake --install` leaves: the command, the static libraries with their headers, and the ways to find them.
#
# Headers lie in include/podnic as they lie in the source tree, and include each other from there; a program says
# #include <podnic/attachment/attachment.h>.
include(CMakePackageConfigHelpers)

set(podnic_libraries types model kernel dhcp bindings attachment launcher)
# Headers that only the sources of podnic include.
set(podnic_private_headers
  attachment/guest_dns.h attachment/record_store.h attachment/site.h attachment/tap_node.h
  bindings/from_network.h bindings/host_name.h bindings/json.h bindings/protocol_numbers.h bindings/refuse.h bindings/takeover.h
  bindings/bridge/.* bindings/macvtap/.* bindings/masquerade/.* bindings/passt/.* bindings/tc/.*
  launcher/control_server.h launcher/descriptor_store.h launcher/service_manager.h launcher/signals.h launcher/vm_nic.h
  netsetup/kernel/conntrack.h netsetup/kernel/macvtap.h netsetup/kernel/netlink.h netsetup/kernel/nftables.h
  netsetup/kernel/nftables_expressions.h netsetup/kernel/rtnetlink.h
  netsetup/kernel/sysctl.h netsetup/kernel/tap.h netsetup/kernel/tc.h netsetup/model/planner.h)
list(JOIN podnic_private_headers "|" podnic_private_regex)
set(podnic_header_folders netsetup/types netsetup/model netsetup/kernel dhcp bindings attachment launcher)

foreach(library IN LISTS podnic_libraries)
  target_compile_features(podnic_${library} PUBLIC cxx_std_23)
  target_include_directories(podnic_${library} INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/podnic>)
  set_target_properties(podnic_${library} PROPERTIES EXPORT_NAME ${library})
endforeach()
add_library(podnic_all INTERFACE)
set_target_properties(podnic_all PROPERTIES EXPORT_NAME podnic)
target_link_libraries(podnic_all INTERFACE podnic_launcher)

set(PODNIC_CNI_DIR lib/cni CACHE STRING "Where the CNI plugin is installed, below the prefix or absolute; runtimes look in /opt/cni/bin, Debian's in /usr/lib/cni")

install(TARGETS podnic RUNTIME COMPONENT runtime)
install(TARGETS podnic_cni RUNTIME DESTINATION ${PODNIC_CNI_DIR} COMPONENT runtime)
install(PROGRAMS ${PROJECT_SOURCE_DIR}/packaging/install-plugin DESTINATION ${CMAKE_INSTALL_DATADIR}/podnic COMPONENT runtime)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/packaging/cni ${PROJECT_SOURCE_DIR}/packaging/kubernetes
        DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT runtime)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime
        FILES_MATCHING PATTERN "*.md" PATTERN "*.json" PATTERN "man" EXCLUDE)
list(TRANSFORM podnic_libraries PREPEND podnic_ OUTPUT_VARIABLE podnic_targets)
install(TARGETS ${podnic_targets} podnic_all EXPORT podnic ARCHIVE)
foreach(folder IN LISTS podnic_header_folders)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/podnic/${folder}
          FILES_MATCHING PATTERN "*.h" REGEX "/(${podnic_private_regex})$" EXCLUDE)
endforeach()

# find_package(podnic)
set(podnic_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/podnic)
install(EXPORT podnic NAMESPACE podnic:: FILE podnicTargets.cmake DESTINATION ${podnic_config_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/podnicConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/podnicConfig.cmake INSTALL_DESTINATION ${podnic_config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/podnicConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/podnicConfig.cmake ${PROJECT_BINARY_DIR}/podnicConfigVersion.cmake
        DESTINATION ${podnic_config_dir})

# pkg-config podnic: relative to the file itself, as the prefix may be chosen at install time
file(RELATIVE_PATH podnic_pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${PROJECT_SOURCE_DIR}/cmake/podnic.pc.in ${PROJECT_BINARY_DIR}/podnic.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/podnic.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(FILES ${PROJECT_SOURCE_DIR}/packaging/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)
file(GLOB podnic_manuals CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.[1-9])
foreach(manual IN LISTS podnic_manuals)
  string(REGEX MATCH "[1-9]$" section ${manual})
  install(FILES ${manual} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT runtime)
endforeach()

# systemd's units. The service names the command by its full path, which may be chosen at install time, too.
install(FILES ${PROJECT_SOURCE_DIR}/packaging/systemd/podnic.socket DESTINATION lib/systemd/system
        COMPONENT runtime)
install(CODE "set(CMAKE_INSTALL_FULL_BINDIR \${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR})
configure_file(${PROJECT_SOURCE_DIR}/packaging/systemd/podnic.service.in
               \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/podnic.service @ONLY)" COMPONENT runtime)

# `cpack` in the build folder: a Debian package of what a node or a pod needs, without the library.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_CONTACT "podnic maintainers <podnic@example.org>")
set(CPACK_COMPONENTS_ALL runtime)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME podnic)
set(CPACK_DEBIAN_RUNTIME_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "${PROJECT_DESCRIPTION}
 The command podnic, its manual pages, the CNI plugin podnic and examples.")
set(CPACK_STRIP_FILES ON)
include(CPack)
